"""Planted errors and their withdrawal, from which a model learns to withdraw its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.backspaces.wrong_tokens import WrongTokens
from freerun.randomness import Coordinate, uniform


@dataclass(frozen=True)
class Noised:
    """Targets as action sequences that go wrong at times, and withdraw what was wrong.

    Args:
        actions: what is written and withdrawn.
        mask: true on actions, false on the padding that follows them.
        planted: true on the wrong tokens, and not on the backspaces that withdraw them.
    """

    actions: Int[Tensor, "b u"]
    mask: Bool[Tensor, "b u"]
    planted: Bool[Tensor, "b u"]


def noised(
    target: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    alternatives: WrongTokens,
    *,
    rate: float,
    most: int = 1,
    backspace: int,
    pad: int,
    names: tuple[Coordinate, ...],
    ids: Int[Tensor, "b"],
) -> Noised:
    """Plant errors before target tokens, eos too, each followed by its withdrawal.

    Cundy, Ermon 2024, arXiv 2306.05426. With probability `rate`, before a token come 1 … `most`
    wrong ones, their number uniform, and as many backspaces. Each wrong one is drawn
    from the alternatives of the token that they stand before; where it has none, no error is
    planted. What remains is the target.

    Args:
        target: the reference tokens, eos included.
        mask: true on them, false on the padding that follows, which is not looked at.
        alternatives: what may be written wrongly in the place of a token.
        rate: the probability of an error before a token, in [0, 1].
        most: the most wrong tokens in a row, at least 1.
        backspace: the action that withdraws.
        pad: what fills shorter rows.
        names: what the draws are named by, beside example and cell: seed, update and so on.
        ids: of the examples.

    Raises:
        ValueError: where rate or most is out of range.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}; it must lie in [0, 1]")
    if most < 1:
        raise ValueError(f"most is {most}; it must be at least 1")
    right = target.masked_fill(~mask, 0)  # padding may be no action
    cells = torch.arange(target.shape[1], device=target.device)
    named = (*names, "noise", ids[:, None], cells)
    planting = mask & (uniform(*named, dtype=torch.float64) < rate) & alternatives.exist(right)
    run = 1 + (uniform(*named, "run", dtype=torch.float64) * most).long()
    run = torch.where(planting, run, 0)
    ends = (torch.where(mask, 2 * run + 1, 0)).cumsum(1)  # where the next token begins
    width = int(ends[:, -1].max()) if target.numel() else 0
    # What is not there goes to a column of its own, which is cut off again.
    actions = target.new_full((len(target), width + 1), backspace)
    planted = torch.zeros_like(actions, dtype=torch.bool)
    actions.scatter_(1, torch.where(mask, ends - 1, width), target)
    for turn in range(int(run.max()) if target.numel() else 0):
        place = torch.where(turn < run, ends - 1 - 2 * run + turn, width)
        draws = uniform(*named, "token", turn, dtype=torch.float64)
        actions.scatter_(1, place, alternatives.choose(right, draws))
        planted.scatter_(1, place, True)
    lengths = ends[:, -1:] if target.shape[1] else ends.new_zeros(len(ends), 1)
    there = torch.arange(width, device=target.device) < lengths
    return Noised(actions[:, :width].masked_fill(~there, pad), there, planted[:, :width])
