"""A writer for policies whose steps return hidden states, and whose rows are costly to select."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.policy import Policy, State, TokenChooser, Writer

_MAX_SCORES = 2**24
"""The maximum number of scores in memory at a time."""


class AdvancingWriter(Writer):
    """A writer that writes the same tokens as steps, through `Policy.advance`.

    Dropped rows stay in the batch until they make up a quarter of it, because selecting rows copies
    their states. Scores are computed for a few rows at a time.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Start over with n rows, of which row i continues row `rows[i]` of `state`."""
        self.state, self.count = state.select(rows), len(rows)
        self.kept: Int[Tensor, "k"] | None = None  # None: all of them, in order

    def write(
        self, inputs: Int[Tensor, "n"], choose: TokenChooser | None = None
    ) -> Int[Tensor, "n"]:
        """Read one token per row and return the next."""
        if self.kept is not None:
            inputs = inputs.new_zeros(self.count).index_copy(0, self.kept, inputs)
        hidden, self.state = self.policy.advance(self.state, inputs)
        if self.kept is not None:
            hidden = hidden[self.kept]
        numbers = torch.arange(len(hidden), device=hidden.device)
        block = max(1, _MAX_SCORES // self.policy.vocabulary.actions)
        blocks = zip(hidden.split(block), numbers.split(block), strict=True)
        return torch.cat([self._choose_tokens(*parts, choose) for parts in blocks])

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""
        self.kept = rows if self.kept is None else self.kept[rows]
        # At least a quarter of the batch is wasted, so copying the others saves time.
        if 4 * len(rows) <= 3 * self.count:
            self.state, self.count, self.kept = self.state.select(self.kept), len(rows), None

    def _choose_tokens(
        self, hidden: Float[Tensor, "k h"], rows: Int[Tensor, "k"], choose: TokenChooser | None
    ) -> Int[Tensor, "k"]:
        scores = self.policy.project(hidden)
        return scores.argmax(-1) if choose is None else choose(scores, rows)
