"""Rows of a recurrent policy that write and withdraw, over a stack of their states."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.policies.recurrent.state import RecurrentState

if TYPE_CHECKING:
    from freerun.policies.recurrent.model import RecurrentPolicy

ROOM = 32
"""The least number of levels by which the stack grows."""


class StackEraser:
    """Writes and withdraws over a stack that holds every token and the state before it.

    The token that is on top after a withdrawal is read once more from the state before it, so that
    its scores need not be stored. Level 0 of a row is bos, level d its d-th token.
    """

    def __init__(self, policy: RecurrentPolicy, state: RecurrentState) -> None:
        self.policy, self.state = policy, state
        self.level = torch.full_like(state.position, -1)
        self.tokens = state.position.new_zeros(len(self.level), 0)
        self.before = [part.new_zeros(len(part), 0, part.shape[1]) for part in _parts(state)]
        self.calls = 0

    def read(self, tokens: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Each row reads its token, or withdraws its last one; the scores of what comes next."""
        if self.calls == self.tokens.shape[1]:
            self.tokens, *self.before = (_wider(held) for held in (self.tokens, *self.before))
        self.calls += 1
        withdraw = withdraw & (self.level >= 0)
        self.level = torch.where(withdraw, (self.level - 1).clamp(min=0), self.level + 1)
        here, back = self.level[:, None], withdraw[:, None]
        read = self.tokens.gather(1, here).where(back, tokens[:, None])
        self.tokens.scatter_(1, here, read)
        parts = []
        for held, part in zip(self.before, _parts(self.state), strict=True):
            at = here[:, :, None].expand(-1, 1, part.shape[1])
            part = part[:, None].to(held.dtype)  # autocast may have made them shorter
            before = held.gather(1, at).where(back[:, :, None], part)
            held.scatter_(1, at, before)
            parts.append(before[:, 0])
        scores, self.state = self.policy.step(_made(self.state, parts, self.level), read[:, 0])
        return scores

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        self.state, self.level = self.state.select(rows), self.level[rows]
        self.tokens, *self.before = (held[rows] for held in (self.tokens, *self.before))


def _parts(state: RecurrentState) -> list[Tensor]:
    """What changes from token to token, [n, h] each."""
    return [*state.hidden, *state.cell, *([] if state.feed is None else [state.feed])]


def _made(state: RecurrentState, parts: list[Tensor], position: Int[Tensor, "n"]) -> RecurrentState:
    """`state` with other `parts`, at these positions."""
    layers, cells = len(state.hidden), len(state.cell)
    return replace(
        state,
        hidden=tuple(parts[:layers]),
        cell=tuple(parts[layers : layers + cells]),
        feed=None if state.feed is None else parts[-1],
        position=position,
    )


def _wider(held: Tensor) -> Tensor:
    """The same with room for more levels."""
    rows, levels, *shape = held.shape
    wider = held.new_zeros(rows, levels + max(ROOM, levels), *shape)
    wider[:, :levels] = held
    return wider
