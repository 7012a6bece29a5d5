"""Rows of a Hugging Face policy that only write."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.policies.huggingface.rows import Rows
from freerun.policy import Choose, State

if TYPE_CHECKING:
    from freerun.policies.huggingface.base import HuggingFacePolicy

SCORES = 2**24
"""The scores that are held at once."""


class CacheWriter:
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

    def write(self, inputs: Int[Tensor, "n"], choose: Choose | None = None) -> Int[Tensor, "n"]:
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
        self, hidden: Float[Tensor, "k h"], rows: Int[Tensor, "k"], choose: Choose | None
    ) -> Int[Tensor, "k"]:
        scores = self.policy.scores(hidden)
        return scores.argmax(-1) if choose is None else choose(scores, rows)
