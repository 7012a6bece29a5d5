"""States and traces of Hugging Face models: cached keys and values, and their places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.chunks import Projection
from freerun.models.huggingface.cache import KeyValues
from freerun.models.huggingface.sharing import SharedSources
from freerun.policy import ProjectedTrace, State

MAX_FORK_BYTES = 2**30
"""The maximum number of bytes of keys and values of rows that run together."""

NO_CACHE = (
    "under gradient checkpointing a model in training mode stores no keys and values to continue "
    "from: "
    "use a method with parallel passes (passes=2), or switch checkpointing off"
)


@dataclass(frozen=True)
class EncoderOutputs:
    """The output of an encoder, a row for each row of a state.

    `hidden` is the output, and `mask` is true on what the decoder attends to (None: all of it), or
    the numbers to add to its attention scores.
    `cross` are the keys and values of the decoder's cross-attention, after its first pass.
    Without gradients they are not copied for several rows of one source, if the policy
    `shares_sources`: `rows` is then the row of `cross` that each row reads.
    """

    hidden: Float[Tensor, "n s h"]
    mask: Bool[Tensor, "n s"] | Float[Tensor, "n 1 1 s"] | None
    cross: KeyValues
    shares_sources: Callable[[], bool] = bool
    rows: Int[Tensor, "n"] | None = None

    @cached_property
    def shared(self) -> SharedSources | None:
        """The source of each row, if sources are shared."""
        return None if self.rows is None else SharedSources(self.rows, self.cross.rows)

    def select(self, rows: Int[Tensor, "n"]) -> EncoderOutputs:
        """Return the outputs of `rows`."""
        sources, shared = rows if self.rows is None else self.rows[rows], None
        repeats = self.cross.used > 0 and len(rows) > self.cross.rows
        if repeats and not torch.is_grad_enabled() and self.shares_sources():
            cross, shared = self.cross, sources
        else:
            cross = self.cross.select(sources)
        # Once there are keys and values, the decoder reads only the shape of `hidden`.
        hidden = (
            self.hidden[rows] if self.cross.used == 0 else self.hidden[:1].expand(len(rows), -1, -1)
        )
        mask = None if self.mask is None else self.mask[rows]
        return EncoderOutputs(hidden, mask, cross, self.shares_sources, shared)


@dataclass(frozen=True)
class CacheState(State):
    """The state of n rows.

    The tokens that each row has read are at the right edge of the slots, without gaps; otherwise
    models with relative positions or a window that count slots (T5, Mistral) would be wrong.

    Attributes:
        past: keys and values.
        mask: true on the slots that a row has read; None if it has read all of them.
        position: the position of the next token.
        first: the token that cell 0 reads instead of its input, if the source determines it.
        encoder: the outputs of the encoder, if there is one.
    """

    past: KeyValues
    mask: Bool[Tensor, "n l"] | None
    position: Int[Tensor, "n"]
    first: Int[Tensor, "n"] | None = None
    encoder: EncoderOutputs | None = None

    def select(self, rows: Int[Tensor, "n"]) -> CacheState:
        """Return the states of `rows`: pick, repeat or reorder."""
        return CacheState(
            self.past.select(rows),
            None if self.mask is None else self.mask[rows],
            self.position[rows],
            None if self.first is None else self.first[rows],
            None if self.encoder is None else self.encoder.select(rows),
        )


AlignedSlots = tuple[Int[Tensor, "n l"], Bool[Tensor, "n l"] | None]
"""Old slots in the order of the new ones, the last at the right edge, and a mask that is true on
them (None if it is true everywhere)."""


def align_right(lengths: Int[Tensor, "n"]) -> AlignedSlots:
    """Return the first `lengths` slots of each row, moved to the right edge."""
    longest = int(lengths.max()) if len(lengths) else 0
    slots = torch.arange(longest, device=lengths.device) + (lengths - longest)[:, None]
    mask = slots >= 0
    return slots.clamp(min=0), None if bool(mask.all()) else mask


def align_visible(visible: Bool[Tensor, "n s"]) -> AlignedSlots:
    """Return the slots of each row that are true, moved to the right edge in their order."""
    slots, mask = align_right(visible.sum(1))
    # A stable sort puts invisible slots first, and keeps the order of the others.
    order = visible.byte().argsort(dim=1, stable=True)
    return order[:, order.shape[1] - slots.shape[1] :], mask


@dataclass(frozen=True)
class CacheTrace(ProjectedTrace):
    """Rows that were read in one pass, each a prompt and then its inputs.

    Args:
        states: the last hidden state of every slot.
        before: the number of slots before the inputs of each row.
        ancestors: for input i of a row, the inputs of the tree on the path to it, including itself;
            None if each continues the one before.
        past: the keys and values; None if they were not stored.
        encoder: the outputs of the encoder, if there is one.
        project: from hidden states to scores.
        actions: the number of scores.
        max_positions: the maximum number of positions of the model; None if unbounded.
    """

    states: Float[Tensor, "b s h"]
    before: Int[Tensor, "b"]
    ancestors: Bool[Tensor, "b t t"] | None
    past: KeyValues | None
    encoder: EncoderOutputs | None
    project: Projection
    actions: int
    max_positions: int | None

    @property
    def longest(self) -> int:
        """An upper bound of the number of tokens that a row has read."""
        return self.states.shape[1]

    def find_slots(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Return the column of `states` of some cells."""
        return self.before[rows] + cells

    def hidden(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n h"]:
        """Return the hidden states that `logits` projects.

        Raises:
            ValueError: if a cell lies beyond the positions of the model.
        """
        rows, cell = cells.nonzero(as_tuple=True)
        slots = self.find_slots(rows, cell)
        if self.max_positions is not None and self.longest > self.max_positions:
            beyond = (self._count_read(rows, cell) > self.max_positions).nonzero()[:, 0]
            if len(beyond):
                row = int(rows[beyond[0]])
                raise ValueError(
                    f"row {row} is longer than the {self.max_positions} positions of the model; "
                    "shorten its source or its target"
                )
        return self.states[rows, slots]

    def prompt_hidden(self) -> tuple[Float[Tensor, "b p h"], Bool[Tensor, "b p"]] | None:
        """Return the hidden states of prompts, and a mask that is true on them."""
        longest = int(self.before.max())
        slots = torch.arange(longest, device=self.before.device)
        return self.states[:, :longest], slots < self.before[:, None]

    def fork(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> CacheState:
        """Return the states after inputs 0 … cell of each row.

        Raises:
            ValueError: if keys and values were not stored.
        """
        if self.past is None:
            raise ValueError(NO_CACHE)
        read = self._count_read(rows, cells)
        if self.ancestors is None:
            slots, mask = align_right(read)
        else:
            slots, mask = align_visible(self._find_visible(self.ancestors, rows, cells))
        return CacheState(
            self.past.gather(rows, slots),
            mask,
            read,
            None,
            None if self.encoder is None else self.encoder.select(rows),
        )

    def max_forks(self, length: int) -> int:
        """Return how many forks, with `length` more tokens each, take `MAX_FORK_BYTES` at most."""
        if self.past is None:
            return 1
        total = self.past.slot_bytes * (self.states.shape[1] + length)
        if self.encoder is not None and not self.encoder.shares_sources():
            total += self.encoder.cross.slot_bytes * self.encoder.cross.used
        return max(1, MAX_FORK_BYTES // max(total, 1))

    def _find_visible(
        self, ancestors: Bool[Tensor, "b t t"], rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]
    ) -> Bool[Tensor, "n s"]:
        """Return the slots that a fork of a tree has read: its prompt, and the path to its cell."""
        slots, before = torch.arange(self.states.shape[1], device=rows.device), self.before[rows]
        inputs = slots - before[:, None]
        length = ancestors.shape[1]
        # Clamped slots are prompt or padding, which are distinguished below.
        on_path = ancestors[rows, cells].gather(1, inputs.clamp(0, length - 1))
        return (inputs < 0) | ((inputs < length) & on_path)

    def _count_read(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Return the number of tokens that a fork has read."""
        if self.ancestors is None:
            return self.before[rows] + cells + 1
        return self.before[rows] + self.ancestors[rows, cells].sum(1)


class ContinuedTrace(CacheTrace):
    """Rows that were read in one pass after a state, whose tokens are at the right edge.

    `states` has only their own slots, and `before` is the number of tokens read before them.
    """

    @property
    def longest(self) -> int:
        """An upper bound of the number of tokens that a row has read."""
        return self.states.shape[1] if self.past is None else self.past.used

    def find_slots(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Return the column of `states` of some cells."""
        return cells

    def prompt_hidden(self) -> None:
        """Return None: the pass has not read the prompts."""
        return

    def fork(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> CacheState:
        """Return the states after inputs 0 … cell of each row."""
        assert self.past is not None  # noqa: S101  # only states with a cache are continued
        read = self._count_read(rows, cells)
        slots, mask = align_right(read)
        # Of a row's own slots, the first is behind those of the state before it.
        start = self.past.used - self.states.shape[1] - self.before[rows]
        slots = (slots + start[:, None]).clamp(min=0)
        encoder = None if self.encoder is None else self.encoder.select(rows)
        return CacheState(self.past.gather(rows, slots), mask, read, None, encoder)


def find_ancestors(parents: Int[Tensor, "b t"]) -> Bool[Tensor, "b t t"]:
    """Return for every input of a tree the inputs on the path to it, including itself.

    Raises:
        ValueError: if a parent does not come before its input.
    """
    count, length = parents.shape
    cells = torch.arange(length, device=parents.device)
    if bool(((parents >= cells) | (parents < -1)).any()):
        raise ValueError("parents[b, i] must be -1 or the number of an input before input i")
    # Parents come before their inputs, so their ancestors are complete when they are needed.
    found = torch.eye(length, dtype=torch.bool, device=parents.device).repeat(count, 1, 1)
    rows = torch.arange(count, device=parents.device)
    for cell in range(1, length):
        parent = parents[:, cell]
        above = found[rows, parent.clamp(min=0)] & (parent >= 0)[:, None]
        found[:, cell] |= above
    return found


def make_tree_mask(
    ancestors: Bool[Tensor, "b t t"], cells: Int[Tensor, "b s"], dtype: torch.dtype
) -> Float[Tensor, "b 1 s s"]:
    """Return the attention mask of a tree: 0 where a slot attends to another, else about -inf.

    transformers adds it to attention scores. A boolean 4D mask would be wrong: eager attention adds
    it as 0 and 1.

    Args:
        ancestors: the ancestors of every input.
        cells: the input in every slot: below 0 before the inputs, past the last one after them.
        dtype: the dtype of attention scores.
    """
    length = ancestors.shape[1]
    inside = cells.clamp(0, length - 1)
    slots = torch.arange(cells.shape[1], device=cells.device)
    rows = torch.arange(len(cells), device=cells.device)[:, None, None]
    is_input = (cells >= 0) & (cells < length)
    on_path = ancestors[rows, inside[:, :, None], inside[:, None, :]]
    prompt = (cells[:, None, :] < 0) & (slots <= slots[:, None])
    visible = prompt | (on_path & is_input[:, :, None] & is_input[:, None, :])
    # Padding attends to itself: the softmax of a row that attends to nothing is NaN.
    visible |= slots == slots[:, None]
    lowest = torch.finfo(dtype).min
    hidden = torch.full(visible.shape, lowest, dtype=dtype, device=visible.device)
    return hidden.masked_fill(visible, 0.0)[:, None]
