"""Rows of a Hugging Face policy that write and withdraw, over keys and values that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.models.huggingface.rows import Rows
from freerun.policy import Eraser, State, TokenChoice, Writer

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy


SCORES = 2**24
"""The scores that are held at once."""


class CacheWriter(Writer):
    """Writes what stepping would write.

    Rows that leave stay in the batch, unheard, until they are a quarter of it: to pick rows is to
    copy all that they have read. Scores are made of a few rows at a time.
    """

    def __init__(self, policy: HuggingFacePolicy) -> None:
        self.policy = policy

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Row i goes on from row `rows[i]` of `state`."""
        self.state = cast("Rows", state).select(rows)
        self.heard: Int[Tensor, "k"] | None = None  # all of them, in order

    def write(
        self, inputs: Int[Tensor, "n"], choose: TokenChoice | None = None
    ) -> Int[Tensor, "n"]:
        """Read one token a row, and give the next."""
        if self.heard is not None:
            every = inputs.new_zeros(len(self.state.position))
            inputs = every.index_copy(0, self.heard, inputs)
        hidden, self.state = self.policy.advance(self.state, inputs)
        if self.heard is not None:
            hidden = hidden[self.heard]
        numbers = torch.arange(len(hidden), device=hidden.device)
        at_once = max(1, SCORES // self.policy.vocabulary.actions)
        blocks = zip(hidden.split(at_once), numbers.split(at_once), strict=True)
        return torch.cat([self._chosen(*block, choose) for block in blocks])

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        self.heard = rows if self.heard is None else self.heard[rows]
        if 4 * len(rows) <= 3 * len(self.state.position):
            self.state, self.heard = self.state.select(self.heard), None

    def _chosen(
        self, hidden: Float[Tensor, "k h"], rows: Int[Tensor, "k"], choose: TokenChoice | None
    ) -> Int[Tensor, "k"]:
        scores = self.policy.project(hidden)
        return scores.argmax(-1) if choose is None else choose(scores, rows)


ROOM = 64
"""The least number of slots by which the mask grows."""


class CacheEraser(Eraser):
    """Writes and withdraws by masking: every call fills one more slot of every row.

    The slot of a withdrawn token is never looked at again. Nor is that of the token which is then
    on top: it is read once more, at its own position, so that its scores need not be stored. Level
    0 of a row is what cell 0 reads, level d its d-th token.
    """

    def __init__(self, policy: HuggingFacePolicy, state: Rows) -> None:
        self.policy, self.past, self.memory = policy, state.past, state.memory
        self.first, self.start = state.first, state.position
        self.level = torch.full_like(self.start, -1)
        count, self.shut = len(self.start), torch.finfo(policy.dtype).min
        # What is added to the scores of attention, and the token and slot of every level.
        self.mask = torch.zeros(count, self.past.used, dtype=policy.dtype, device=policy.device)
        if state.mask is not None:
            self.mask.masked_fill_(~state.mask, self.shut)
        self.tokens = self.start.new_zeros(count, 0)
        self.slots = self.start.new_zeros(count, 0)

    def read(self, tokens: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Each row reads its token, or withdraws its last one; the scores of what comes next."""
        slot = self.past.used
        self._make_room(slot)
        if self.first is not None:
            tokens, self.first = self.first, None
        left = self.level.clamp(min=0)[:, None]
        withdraw = withdraw & (self.level >= 0)
        self.level = torch.where(withdraw, (self.level - 1).clamp(min=0), self.level + 1)
        here, back = self.level[:, None], withdraw[:, None]
        # The last column is a spare one, which takes what is written for rows that go on.
        freed = self.slots.gather(1, torch.cat([left, here], 1)).where(back, self.mask.shape[1] - 1)
        self.mask.scatter_(1, freed, self.shut)
        read = self.tokens.gather(1, here).where(back, tokens[:, None])
        self.tokens.scatter_(1, here, read)
        self.slots.scatter_(1, here, slot)
        return self.policy.project(self._advance(read, slot))

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        self.past, self.level, self.start = (
            self.past.select(rows),
            self.level[rows],
            self.start[rows],
        )
        self.memory = None if self.memory is None else self.memory.select(rows)
        self.mask, self.tokens, self.slots = self.mask[rows], self.tokens[rows], self.slots[rows]

    def _advance(self, read: Int[Tensor, "n 1"], slot: int) -> Float[Tensor, "n h"]:
        """Fill one slot of every row: the last hidden states."""
        position, most, beyond = (self.start + self.level)[:, None], self.policy.max_positions, None
        if most is not None and slot >= most:  # some row may be; see `HuggingFacePolicy.advance`
            beyond = position >= most
            position = position.clamp(max=most - 1)
        hidden, self.past, self.memory = self.policy.read(
            read, position, self.mask[:, None, None, : slot + 1], self.past, self.memory
        )
        return hidden[:, -1] if beyond is None else hidden[:, -1].masked_fill(beyond, torch.nan)

    def _make_room(self, slot: int) -> None:
        """See that there is a column for `slot`, a spare one, and one level more."""
        if slot + 1 < self.mask.shape[1]:
            return
        count, more = len(self.level), max(ROOM, slot // 2)
        mask = self.mask.new_zeros(count, slot + 1 + more)
        mask[:, :slot] = self.mask[:, :slot]
        tokens, slots = (
            old.new_zeros(count, old.shape[1] + 1 + more) for old in (self.tokens, self.slots)
        )
        tokens[:, : self.tokens.shape[1]] = self.tokens
        slots[:, : self.slots.shape[1]] = self.slots
        self.mask, self.tokens, self.slots = mask, tokens, slots
