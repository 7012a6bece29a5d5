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

_PARTS = ("sources", "actions")


@dataclass(frozen=True)
class Entry:
    """One sequence.

    Attributes:
        example: the number of the example that it was sampled for.
        source: the source, without padding.
        actions: tokens, eos and backspaces.
        step: the number of updates done when it was sampled.
    """

    example: int
    source: Tensor
    actions: Int[Tensor, "t"]
    step: int


@dataclass(frozen=True)
class ReplayedBatch:
    """Sequences that a policy wrote, one per row.

    Attributes:
        source: the sources that they were sampled for.
        actions: tokens, eos and backspaces.
        mask: true on actions, false on padding.
        steps: the number of updates done when each was sampled.
    """

    source: Source
    actions: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]
    steps: Int[Tensor, "b"]


@dataclass
class ReplayBuffer:
    """The sequences of the last few samplings; those of one update make one sampling.

    New sequences are held back until the end of the update, so all batches of an update see the
    same buffer, however it is split. Then all processes add the same sequences in the same order.

    Attributes:
        samplings: the stored samplings, the oldest first.
        waiting: the sequences added in this update by this process.
    """

    samplings: list[list[Entry]] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of sequences."""
        return sum(map(len, self.samplings))

    def add(
        self,
        ids: Int[Tensor, "b"],
        source: Source,
        actions: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        step: int,
    ) -> None:
        """Add sequences, which are held back until the end of the update."""
        rows = zip(
            ids.tolist(),
            source.values.cpu(),
            source.lengths.tolist(),
            actions.cpu(),
            mask.sum(1).tolist(),
            strict=True,
        )
        self.waiting += [
            Entry(number, values[:length].clone(), written[:count].clone(), step)
            for number, values, length, written, count in rows
        ]

    def commit(self, most: int) -> None:
        """Store the held sequences of all processes; keep only the `most` newest samplings."""
        found = sorted(gather_object(self.waiting), key=lambda entry: entry.example)
        self.waiting = []
        if found:
            self.samplings = [*self.samplings, found][-most:]

    def draw(self, numbers: Int[Tensor, "b"], pad: int) -> ReplayedBatch:
        """Return the sequences with these numbers, from 0."""
        every = [entry for sampling in self.samplings for entry in sampling]
        rows = [every[number] for number in numbers.tolist()]
        device = numbers.device
        values, mask = _pad([row.source for row in rows], 0)
        actions, taken = _pad([row.actions for row in rows], pad)
        steps = torch.tensor([row.step for row in rows], device=device)
        source = Source(values.to(device), mask.to(device))
        return ReplayedBatch(source, actions.to(device), taken.to(device), steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the contents as a few tensors."""
        every = [entry for sampling in self.samplings for entry in sampling]
        state: dict[str, Any] = {"sizes": [len(sampling) for sampling in self.samplings]}
        if every:
            state["examples"] = torch.tensor([entry.example for entry in every])
            state["steps"] = torch.tensor([entry.step for entry in every])
            parts = [entry.source for entry in every], [entry.actions for entry in every]
            for name, rows in zip(_PARTS, parts, strict=True):
                state[name] = torch.cat(rows)
                state[f"{name}_lengths"] = torch.tensor([len(row) for row in rows])
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.samplings, self.waiting = [], []
        if not state["sizes"]:
            return
        parts = (state[name].split(state[f"{name}_lengths"].tolist()) for name in _PARTS)
        examples, steps = state["examples"].tolist(), state["steps"].tolist()
        entries = [Entry(*entry) for entry in zip(examples, *parts, steps, strict=True)]
        for size in state["sizes"]:
            self.samplings.append(entries[:size])
            entries = entries[size:]


def _pad(rows: Sequence[Tensor], pad: int) -> tuple[Tensor, Bool[Tensor, "b t"]]:
    """Pad rows to a rectangle; also return the mask."""
    lengths = torch.tensor([len(row) for row in rows])
    values = pad_sequence(list(rows), batch_first=True, padding_value=pad)
    return values, torch.arange(values.shape[1]) < lengths[:, None]
