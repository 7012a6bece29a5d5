"""What a policy wrote a while ago: a replay buffer that makes a run exactly repeatable."""

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
        example: the number of the example that it was written for.
        source: what was read, without padding.
        actions: what was written, eos and backspaces included.
        step: the updates that had been done then.
    """

    example: int
    source: Tensor
    actions: Int[Tensor, "t"]
    step: int


@dataclass(frozen=True)
class ReplayedBatch:
    """Sequences of a policy, a row each.

    Attributes:
        source: what they were written for.
        actions: what was written, eos and backspaces included.
        mask: true on that.
        steps: the updates that had been done when each was written.
    """

    source: Source
    actions: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]
    steps: Int[Tensor, "b"]


@dataclass
class ReplayBuffer:
    """The sequences of the last few samplings; those of one update make one sampling.

    What is added waits until the update is done: so the batches of an update see the same buffer,
    however it is split. Then all processes put the same sequences in the same order.

    Attributes:
        samplings: what is there, the oldest first.
        waiting: what was added in this update, by this process.
    """

    samplings: list[list[Entry]] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of sequences."""
        return sum(map(len, self.samplings))

    def add(
        self,
        ids: Int[Tensor, "b"],
        source: Source,
        actions: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        step: int,
    ) -> None:
        """Let sequences wait for the end of the update."""
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
        """Put in what waits, of all processes; of more than `most` samplings the oldest leave."""
        found = sorted(gather_object(self.waiting), key=lambda entry: entry.example)
        self.waiting = []
        if found:
            self.samplings = [*self.samplings, found][-most:]

    def draw(self, numbers: Int[Tensor, "b"], pad: int) -> ReplayedBatch:
        """The sequences of these numbers, from 0 to the number of sequences."""
        every = [entry for sampling in self.samplings for entry in sampling]
        rows = [every[number] for number in numbers.tolist()]
        device = numbers.device
        values, mask = _pad([row.source for row in rows], 0)
        actions, taken = _pad([row.actions for row in rows], pad)
        steps = torch.tensor([row.step for row in rows], device=device)
        source = Source(values.to(device), mask.to(device))
        return ReplayedBatch(source, actions.to(device), taken.to(device), steps)

    def state_dict(self) -> dict[str, Any]:
        """All of it as a few tensors."""
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
        """What `state_dict` gave."""
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
    """Rows as a rectangle, and where it is not padding."""
    lengths = torch.tensor([len(row) for row in rows])
    values = pad_sequence(list(rows), batch_first=True, padding_value=pad)
    return values, torch.arange(values.shape[1]) < lengths[:, None]
