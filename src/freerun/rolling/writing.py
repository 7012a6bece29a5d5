"""Writing with any policy, quickly where it can."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from freerun.policy import Choose, Policy, State, Writer, WritingPolicy
from freerun.rolling.choices import greedy_choice


def writer_of(policy: Policy) -> Writer:
    """The policy's own writer, or one that goes step by step.

    To be used without gradients and in evaluation mode, and while the weights stay as they are.
    """
    return policy.writer() if isinstance(policy, WritingPolicy) else StepWriter(policy)


class StepWriter:
    """Writes with any policy: all its scores at every step, and states that are copied."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Row i goes on from row `rows[i]` of `state`."""
        self.state, self.rows = state.select(rows), torch.arange(len(rows), device=rows.device)

    def write(self, inputs: Int[Tensor, "n"], choose: Choose | None = None) -> Int[Tensor, "n"]:
        """Read one token a row, and give the next."""
        scores, self.state = self.policy.step(self.state, inputs)
        if choose is None:
            return greedy_choice(scores)
        return choose(scores, self.rows[: len(inputs)])

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        self.state = self.state.select(rows)
