"""Trees of prefixes as attention masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.models.huggingface.cache import Past
from freerun.policy import State, Trace

MEMORY = 2**30
"""The bytes that rows which are run together may take."""


@dataclass(frozen=True)
class Memory:
    """What an encoder made of the sources, a row for each row of a state.

    `hidden` is its output; `cross` the keys and values that the decoder made of it, once it did.
    """

    hidden: Float[Tensor, "n s h"]
    mask: Bool[Tensor, "n s"]
    cross: Past

    def select(self, rows: Int[Tensor, "n"]) -> Memory:
        """The same of other rows."""
        cross = self.cross.select(rows)
        # Once there are keys and values, nobody reads what they were made of.
        hidden = self.hidden[rows] if cross.used == 0 else self.hidden[:1].expand(len(rows), -1, -1)
        return Memory(hidden, self.mask[rows], cross)


@dataclass(frozen=True)
class Rows(State):
    """The state of n rows.

    What each has read lies at the right edge of the slots of `past`, without holes, so that the
    distance of two slots is that of their tokens. `mask` says where it lies; None where it fills
    the slots. `position` is that of the next token. `first` is what cell 0 reads, whatever is
    given, where that is settled by the source.
    """

    past: Past
    mask: Bool[Tensor, "n l"] | None
    position: Int[Tensor, "n"]
    first: Int[Tensor, "n"] | None = None
    memory: Memory | None = None

    def select(self, rows: Int[Tensor, "n"]) -> Rows:
        """The states of `rows`: pick, repeat, reorder."""
        return Rows(
            self.past.select(rows),
            None if self.mask is None else self.mask[rows],
            self.position[rows],
            None if self.first is None else self.first[rows],
            None if self.memory is None else self.memory.select(rows),
        )


Edge = tuple[Int[Tensor, "n l"], Bool[Tensor, "n l"] | None]
"""Slots in order, the last at the right edge, and where there are any (None: everywhere)."""


def right_edge(lengths: Int[Tensor, "n"]) -> Edge:
    """The first `lengths` slots of each row."""
    longest = int(lengths.max()) if len(lengths) else 0
    slots = torch.arange(longest, device=lengths.device) + (lengths - longest)[:, None]
    mask = slots >= 0
    return slots.clamp(min=0), None if bool(mask.all()) else mask


def right_edge_of(visible: Bool[Tensor, "n s"]) -> Edge:
    """The slots of each row that are true."""
    slots, mask = right_edge(visible.sum(1))
    # In order, but behind those that are not visible.
    order = visible.byte().argsort(dim=1, stable=True)
    return order[:, order.shape[1] - slots.shape[1] :], mask


@dataclass(frozen=True)
class RowsTrace(Trace):
    """Rows that were read in one pass, each as a prefix and then its inputs.

    Args:
        states: the last hidden state of every slot.
        before: the number of slots before the inputs of each row.
        ancestors: for input i of a row, the inputs of the tree that lead to it, itself included;
            None where each continues the one before.
        past: the keys and values; None where they were not kept.
        memory: of the encoder.
        project: from hidden states to scores.
        longest: the most positions that the model has; None where there is no bound.
    """

    states: Float[Tensor, "b s h"]
    before: Int[Tensor, "b"]
    ancestors: Bool[Tensor, "b t t"] | None
    past: Past | None
    memory: Memory | None
    project: Callable[[Float[Tensor, "n h"]], Float[Tensor, "n a"]]
    longest: int | None

    def logits(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n a"]:
        """The scores at the cells that are true, row by row.

        Raises:
            ValueError: where a cell lies beyond the positions that the model has.
        """
        return self.project(self.hidden(cells))

    def hidden(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n h"]:
        """Return the hidden states that `logits` projects.

        Raises:
            ValueError: if a cell lies beyond the positions that the model has.
        """
        rows, cell = cells.nonzero(as_tuple=True)
        slots = self.before[rows] + cell
        if self.longest is not None and self.states.shape[1] > self.longest:
            beyond = (self._depths(rows, cell) > self.longest).nonzero()[:, 0]
            if len(beyond):
                row = int(rows[beyond[0]])
                raise ValueError(
                    f"row {row} is longer than the {self.longest} positions of the model; "
                    "shorten its source or its target"
                )
        return self.states[rows, slots]

    def prompt_hidden(self) -> tuple[Float[Tensor, "b p h"], Bool[Tensor, "b p"]] | None:
        """Return the hidden states of prompts, and a mask that is true on them."""
        longest = int(self.before.max())
        slots = torch.arange(longest, device=self.before.device)
        return self.states[:, :longest], slots < self.before[:, None]

    def fork(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> Rows:
        """The states after inputs 0 … cell of each row.

        Raises:
            ValueError: where keys and values were not kept.
        """
        if self.past is None:
            raise ValueError(NO_CACHE)
        read = self._depths(rows, cells)
        if self.ancestors is None:
            slots, mask = right_edge(read)
        else:
            slots, mask = right_edge_of(self._visible(self.ancestors, rows, cells))
        return Rows(
            self.past.gather(rows, slots),
            mask,
            read,
            None,
            None if self.memory is None else self.memory.select(rows),
        )

    def max_forks(self, length: int) -> int:
        """Return how many forks, with `length` more tokens each, keep within `MEMORY` bytes."""
        if self.past is None:
            return 1
        total = self.past.slot_bytes * (self.states.shape[1] + length)
        if self.memory is not None:
            total += self.memory.cross.slot_bytes * self.memory.cross.used
        return max(1, MEMORY // max(total, 1))

    def _visible(
        self, ancestors: Bool[Tensor, "b t t"], rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]
    ) -> Bool[Tensor, "n s"]:
        """The slots that a fork of a tree has read."""
        slots, before = torch.arange(self.states.shape[1], device=rows.device), self.before[rows]
        inputs = slots - before[:, None]
        length = ancestors.shape[1]
        on_path = ancestors[rows, cells].gather(1, inputs.clamp(0, length - 1))
        return (inputs < 0) | ((inputs < length) & on_path)

    def _depths(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """The number of tokens that a fork has read."""
        if self.ancestors is None:
            return self.before[rows] + cells + 1
        return self.before[rows] + self.ancestors[rows, cells].sum(1)


NO_CACHE = (
    "under gradient checkpointing a model in training mode keeps no keys and values to go on from: "
    "use a method with parallel passes (passes=2), or switch checkpointing off"
)


def ancestors_of(parents: Int[Tensor, "b t"]) -> Bool[Tensor, "b t t"]:
    """For every input of a tree, the inputs on the path to it, itself included.

    Raises:
        ValueError: where a parent does not stand before its input.
    """
    count, length = parents.shape
    cells = torch.arange(length, device=parents.device)
    if bool(((parents >= cells) | (parents < -1)).any()):
        raise ValueError("parents[b, i] must be -1 or the number of an input before input i")
    found = torch.eye(length, dtype=torch.bool, device=parents.device).repeat(count, 1, 1)
    rows = torch.arange(count, device=parents.device)
    for cell in range(1, length):
        parent = parents[:, cell]
        above = found[rows, parent.clamp(min=0)] & (parent >= 0)[:, None]
        found[:, cell] |= above
    return found


def tree_mask(
    ancestors: Bool[Tensor, "b t t"], cells: Int[Tensor, "b s"], dtype: torch.dtype
) -> Float[Tensor, "b 1 s s"]:
    """What is added to the attention of each slot to each slot: 0 where it may look.

    Args:
        ancestors: of every input.
        cells: the input that stands in every slot: below 0 before the inputs, and past the last
            after them.
        dtype: of the scores of attention.
    """
    length = ancestors.shape[1]
    inside = cells.clamp(0, length - 1)
    slots = torch.arange(cells.shape[1], device=cells.device)
    rows = torch.arange(len(cells), device=cells.device)[:, None, None]
    is_input = (cells >= 0) & (cells < length)
    on_path = ancestors[rows, inside[:, :, None], inside[:, None, :]]
    before = (cells[:, None, :] < 0) & (slots <= slots[:, None])
    seen = before | (on_path & is_input[:, :, None] & is_input[:, None, :])
    seen |= slots == slots[:, None]  # padding looks at itself, so that nothing looks nowhere
    nowhere = torch.full(seen.shape, torch.finfo(dtype).min, dtype=dtype, device=seen.device)
    return nowhere.masked_fill(seen, 0.0)[:, None]
