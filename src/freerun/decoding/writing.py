"""Writing with any policy, quickly where it can."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.decoding.choices import greedy_choice
from freerun.policy import Choose, Policy, State, Writer, WritingPolicy


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


Written = tuple[Int[Tensor, "k"], Int[Tensor, "k"], Bool[Tensor, "k"]]
"""The rows that wrote, what they wrote, and which of them are done."""


def written(
    writer: Writer,
    inputs: Int[Tensor, "n"],
    room: Int[Tensor, "n"],
    eos: int | None,
    choose: Choose | None = None,
) -> Iterator[Written]:
    """Let rows write on until each has written eos or filled its room; gives every step.

    Args:
        writer: has begun with these rows.
        inputs: the token that each reads first.
        room: the most tokens that each may write, at least 1.
        eos: the token that ends a row, if there is one.
        choose: makes tokens of scores; left out, the best are written. It is given the rows by
            their numbers here.
    """
    rows = torch.arange(len(inputs), device=inputs.device)

    while len(rows):
        choose_here = None if choose is None else partial(_by_number, choose, rows)
        inputs = writer.write(inputs, choose_here)
        room = room - 1
        done = room == 0
        if eos is not None:
            done = done | (inputs == eos)
        yield rows, inputs, done
        stay = (~done).nonzero()[:, 0]
        if len(stay) < len(rows):
            rows, inputs, room = rows[stay], inputs[stay], room[stay]
            writer.keep(stay)


def _by_number(
    choose: Choose, rows: Int[Tensor, "n"], scores: Float[Tensor, "k a"], some: Int[Tensor, "k"]
) -> Int[Tensor, "k"]:
    return choose(scores, rows[some])
