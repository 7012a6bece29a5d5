"""What the losses of a cell share: the tokens that were tried, the best of them, what to aim at."""

from __future__ import annotations

import math
from typing import NoReturn

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def target_distribution(
    costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], alpha: float
) -> Float[Tensor, "n k"]:
    """P_C(a) = exp(-α·c(a)) / Σ_b exp(-α·c(b)) over the tokens of a cell that were tried.

    Leblond et al. 2018, arXiv 1706.04499. With α → ∞ it is uniform over the tokens of
    least cost, with α → 0 over all that were tried.

    Args:
        costs: what each token costs; finite where it was tried, and not looked at elsewhere.
        mask: the tokens that were tried, at least one in each row.
        alpha: how much costs count; finite and above 0.

    Returns:
        Probabilities, in single precision at least; 0 where a token was not tried.

    Raises:
        ValueError: where α is out of range, a cost is not finite, or nothing was tried in a row.
    """
    return log_target(above_least(costs, mask, torch.float32), mask, alpha).exp()


def log_target(
    costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], alpha: float
) -> Float[Tensor, "n k"]:
    """The logarithm of P_C, -∞ where a token was not tried, of costs that are finite everywhere."""
    check_alpha(alpha)
    return (-alpha * costs).masked_fill(~mask, -math.inf).log_softmax(-1)


def check_alpha(alpha: float) -> None:
    """Check the range of α.

    Raises:
        ValueError: where it is not finite and above 0.
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha is {alpha}; it must be finite and above 0")


def above_least(
    costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], dtype: torch.dtype
) -> Float[Tensor, "n k"]:
    """c(a) - min_b c(b) without gradient, 0 where a token was not tried.

    Args:
        costs: what each token costs; not looked at where it was not tried.
        mask: the tokens that were tried.
        dtype: the precision wanted, at least; the difference is taken in the finer of the two.

    Raises:
        ValueError: where nothing was tried in a row, or a cost is not finite.
    """
    right = mask.any(-1) & (costs.isfinite() | ~mask).all(-1)
    if not bool(right.all()):
        _refuse(costs, mask, int(right.int().argmin()))
    costs = costs.detach().to(torch.promote_types(costs.dtype, dtype))
    least = costs.masked_fill(~mask, math.inf).amin(-1, keepdim=True)
    return (costs - least).masked_fill(~mask, 0)


def _refuse(costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], row: int) -> NoReturn:
    if not bool(mask[row].any()):
        raise ValueError(f"row {row} has no token that was tried; each needs one at least")
    column = int((costs[row].isfinite() | ~mask[row]).int().argmin())
    cost = float(costs[row, column])
    raise ValueError(f"row {row}, column {column}: the cost is {cost}; it must be finite")


def best(
    costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], ties: Float[Tensor, "n k"] | None
) -> Int[Tensor, "n 1"]:
    """The column of a*, of costs above the least of their cell."""
    least = (costs == 0) & mask
    if ties is None:
        return least.int().argmax(-1, keepdim=True)
    return ties.masked_fill(~least, -math.inf).argmax(-1, keepdim=True)


def prepared(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    fill: float,
    *,
    all_labels: bool = False,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Scores and costs above the least of their cell, in single precision at least.

    Scores are `fill` where a token was not tried, unless all labels count; costs are 0 there.
    """
    # Half precision has too few digits for a sum over tokens.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    costs = above_least(costs, mask, scores.dtype).to(scores.dtype)
    return (scores if all_labels else scores.masked_fill(~mask, fill)), costs


def expected(probs: Float[Tensor, "n k"], values: Float[Tensor, "n k"]) -> Float[Tensor, "n"]:
    """Σ_a p(a)·v(a), where what cannot be counts nothing, be its value infinite: 0·log 0 = 0."""
    return (probs * values.masked_fill(probs == 0, 0)).sum(-1)
