"""A replay buffer of sampled sequences, which keeps runs exactly reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils import gather_object
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from freerun.batch import Source
from freerun.costs.rows import length_mask

_SOURCES = "sources"


@dataclass(frozen=True)
class Entry:
    """What was written for one example.

    Attributes:
        example: the number of the example.
        step: the number of updates done when it was written.
        source: the source, without padding.
        rows: the sequences of the example, without padding, in the order of the buffer's `names`.
    """

    example: int
    step: int
    source: Tensor
    rows: tuple[Int[Tensor, "_"], ...]


@dataclass(frozen=True)
class ReplayedBatch:
    """Entries of a buffer, one per row.

    Attributes:
        source: the sources that they were written for.
        rows: the sequences and their masks, true on tokens and false on padding, by name.
        steps: the number of updates done when each was written.
    """

    source: Source
    rows: dict[str, tuple[Int[Tensor, "b _"], Bool[Tensor, "b _"]]]
    steps: Int[Tensor, "b"]


@dataclass
class ReplayBuffer:
    """What the policy wrote in the last few samplings; the entries of one update make one sampling.

    New entries are held back until the end of the update, so all batches of an update see the same
    buffer, however it is split. Then all processes add the same entries in the same order.

    Attributes:
        names: the names of the sequences of an entry, such as actions.
        samplings: the stored samplings, the oldest first.
        waiting: the entries added in this update by this process.
    """

    names: tuple[str, ...]
    samplings: list[list[Entry]] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(map(len, self.samplings))

    def add(
        self,
        ids: Int[Tensor, "b"],
        source: Source,
        step: int,
        *rows: tuple[Int[Tensor, "b _"], Bool[Tensor, "b _"]],
    ) -> None:
        """Add sequences with their masks, which are held back until the end of the update."""
        parts = [_cut(values, mask) for values, mask in rows]
        entries = zip(ids.tolist(), _cut(source.values, source.mask), *parts, strict=True)
        self.waiting += [Entry(number, step, read, tuple(rest)) for number, read, *rest in entries]

    def commit(self, most: int) -> None:
        """Store the held entries of all processes; keep only the `most` newest samplings."""
        found = sorted(gather_object(self.waiting), key=lambda entry: entry.example)
        self.waiting = []
        if found:
            self.samplings = [*self.samplings, found][-most:]

    def draw(self, numbers: Int[Tensor, "b"], pad: int) -> ReplayedBatch:
        """Return the entries with these numbers, from 0."""
        every = [entry for sampling in self.samplings for entry in sampling]
        found, device = [every[number] for number in numbers.tolist()], numbers.device
        source = Source(*_pad([entry.source for entry in found], 0, device))
        rows = {
            name: _pad([entry.rows[place] for entry in found], pad, device)
            for place, name in enumerate(self.names)
        }
        steps = torch.tensor([entry.step for entry in found], device=device)
        return ReplayedBatch(source, rows, steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the contents as a few tensors."""
        every = [entry for sampling in self.samplings for entry in sampling]
        state: dict[str, Any] = {"sizes": [len(sampling) for sampling in self.samplings]}
        if every:
            state["examples"] = torch.tensor([entry.example for entry in every])
            state["steps"] = torch.tensor([entry.step for entry in every])
            parts = [entry.source for entry in every], *zip(*(e.rows for e in every), strict=True)
            for name, rows in zip((_SOURCES, *self.names), parts, strict=True):
                state[name] = torch.cat(tuple(rows))
                state[f"{name}_lengths"] = torch.tensor([len(row) for row in rows])
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.samplings, self.waiting = [], []
        if not state["sizes"]:
            return
        sources, *parts = (
            state[name].split(state[f"{name}_lengths"].tolist()) for name in (_SOURCES, *self.names)
        )
        examples, steps = state["examples"].tolist(), state["steps"].tolist()
        rows = zip(*parts, strict=True)
        entries = [Entry(*entry) for entry in zip(examples, steps, sources, rows, strict=True)]
        for size in state["sizes"]:
            self.samplings.append(entries[:size])
            entries = entries[size:]


def _cut(values: Tensor, mask: Bool[Tensor, "b _"]) -> list[Tensor]:
    """Return rows without padding, on the CPU."""
    rows = zip(values.cpu(), mask.sum(1).tolist(), strict=True)
    return [row[:length].clone() for row, length in rows]


def _pad(
    rows: Sequence[Tensor], pad: int, device: torch.device
) -> tuple[Tensor, Bool[Tensor, "b _"]]:
    """Pad rows to a rectangle; also return the mask."""
    lengths = torch.tensor([len(row) for row in rows])
    values = pad_sequence(list(rows), batch_first=True, padding_value=pad)
    return values.to(device), length_mask(values.shape[1], lengths).to(device)
