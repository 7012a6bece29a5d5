"""Rows of a Hugging Face policy that write and withdraw tokens, over cached keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.models.huggingface.state import CacheState
from freerun.models.writer import AdvancingWriter
from freerun.policy import Eraser, State

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy


MASK_GROWTH = 64
"""The minimum number of slots by which the mask of an eraser grows."""


class CacheWriter(AdvancingWriter):
    """A writer of rows that share the keys and values of their sources, if they can."""

    policy: HuggingFacePolicy

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Start over with n rows, of which row i continues row `rows[i]` of `state`."""
        before = cast("CacheState", state)
        if len(rows) > len(before.position):
            before = self.policy.prepare_sources(before)
        super().begin(before, rows)


class CacheEraser(Eraser):
    """An eraser that withdraws by masking: every call fills one more slot of every row.

    The slot of a withdrawn token is masked from then on. So is that of the token before it, which
    is read again into a new slot, at its own position: this gives its scores again without storing
    them, and rows that write and rows that withdraw share one pass. Level 0 of a row is the input
    of cell 0, level d its d-th token.
    """

    def __init__(self, policy: HuggingFacePolicy, state: CacheState) -> None:
        self.policy, self.past, self.encoder = policy, state.past, state.encoder
        self.first, self.start = state.first, state.position
        self.level = torch.full_like(self.start, -1)
        count, self.hidden = len(self.start), torch.finfo(policy.dtype).min
        # The mask is added to attention scores (boolean 4D masks are wrong under eager attention);
        # `tokens` and `slots` are those of every level.
        self.mask = torch.zeros(count, self.past.used, dtype=policy.dtype, device=policy.device)
        if state.mask is not None:
            self.mask.masked_fill_(~state.mask, self.hidden)
        self.tokens = self.start.new_zeros(count, 0)
        self.slots = self.start.new_zeros(count, 0)

    def read(self, tokens: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Read a token or withdraw the last one in each row; return the scores of the next."""
        slot = self.past.used
        self._grow(slot)
        if self.first is not None:
            tokens, self.first = self.first, None  # the prompt determines the input of cell 0
        previous = self.level.clamp(min=0)[:, None]
        withdraw = withdraw & (self.level >= 0)
        self.level = torch.where(withdraw, (self.level - 1).clamp(min=0), self.level + 1)
        here, back = self.level[:, None], withdraw[:, None]
        # Rows that write mask the last column, which no token ever uses.
        freed = self.slots.gather(1, torch.cat([previous, here], 1)).where(
            back, self.mask.shape[1] - 1
        )
        self.mask.scatter_(1, freed, self.hidden)
        read = self.tokens.gather(1, here).where(back, tokens[:, None])
        self.tokens.scatter_(1, here, read)
        self.slots.scatter_(1, here, slot)  # read again, a token has moved to a new slot
        return self.policy.project(self._advance(read, slot))

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""
        self.past, self.level, self.start = (
            self.past.select(rows),
            self.level[rows],
            self.start[rows],
        )
        self.encoder = None if self.encoder is None else self.encoder.select(rows)
        self.mask, self.tokens, self.slots = self.mask[rows], self.tokens[rows], self.slots[rows]

    def _advance(self, read: Int[Tensor, "n 1"], slot: int) -> Float[Tensor, "n h"]:
        """Fill one slot of every row; return the last hidden states."""
        position, beyond = self.policy.clip_positions((self.start + self.level)[:, None], slot)
        hidden, self.past, self.encoder = self.policy.read_slot(
            read, position, self.mask[:, None, None, : slot + 1], self.past, self.encoder
        )
        return hidden[:, -1] if beyond is None else hidden[:, -1].masked_fill(beyond, torch.nan)

    def _grow(self, slot: int) -> None:
        """Grow the mask and the levels until they have room for `slot` and an unused column."""
        if slot + 1 < self.mask.shape[1]:
            return
        count, more = len(self.level), max(MASK_GROWTH, slot // 2)
        mask = self.mask.new_zeros(count, slot + 1 + more)
        mask[:, :slot] = self.mask[:, :slot]
        tokens, slots = (
            old.new_zeros(count, old.shape[1] + 1 + more) for old in (self.tokens, self.slots)
        )
        tokens[:, : self.tokens.shape[1]] = self.tokens
        slots[:, : self.slots.shape[1]] = self.slots
        self.mask, self.tokens, self.slots = mask, tokens, slots
