"""Losses of a cell that compare scores with costs directly, without a softmax.

Leblond, Alayrac, Osokin, Lacoste-Julien 2018, *SEARNN: Training RNNs with Global-Local Losses*,
arXiv 1706.04499. Arguments are those of the losses by softmax; only tokens that were tried have a
part in them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from freerun.losses.cells import best, check_alpha, prepared


def structured_hinge(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
    ties: Float[Tensor, "n k"] | None = None,
) -> Float[Tensor, "n"]:
    """max_a (s(a) + α·c(a)) - s(a*) - α·c(a*), a* = argmin_a c(a).

    At least 0, and 0 once every token lies below a* by α times what it costs more. Where several
    tokens attain the maximum, they share its gradient.

    Args:
        scores: unnormalised scores; finite where a token was tried.
        costs: what each token costs; finite where it was tried.
        mask: the tokens that were tried, at least one in each row; others are not looked at.
        alpha: how much costs count; finite and above 0.
        ties: of several tokens of least cost, a* is the one with the largest value here; finite.
            None for the first.

    Raises:
        ValueError: where α is out of range, a cost is not finite, or nothing was tried in a row.
    """
    check_alpha(alpha)
    scores, costs = prepared(scores, costs, mask, -math.inf)
    augmented = scores + alpha * costs
    return augmented.amax(-1) - augmented.gather(-1, best(costs, mask, ties))[:, 0]


def consistent(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
) -> Float[Tensor, "n"]:
    """Σ_a c(a)·log(1 + exp s̃(a)), where s̃(a) = s(a) - mean_b s(b).

    Lee, Lin, Wahba 2004, *Multicategory Support Vector Machines*, with the logistic loss in place
    of the hinge: with enough data and capacity its minimiser chooses the token of least expected
    cost. At least 0; sum and mean are over the tokens that were tried.

    Args:
        scores: unnormalised scores; finite where a token was tried.
        costs: what each token costs; finite where it was tried.
        mask: the tokens that were tried, at least one in each row; others are not looked at.

    Raises:
        ValueError: where a cost is not finite, or nothing was tried in a row.
    """
    scores, costs = prepared(scores, costs, mask, 0.0)
    centred = scores - scores.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)
    return (costs * torch.logaddexp(centred, torch.zeros_like(centred))).sum(-1)


def l2(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
) -> Float[Tensor, "n"]:
    """Σ_a (s(a) + α·(c(a) - c_max/2))²: scores regress on negative costs.

    From the code of the paper's authors. c_max is the largest cost once the least has been taken
    off, so that scores are to lie in [-α·c_max/2, α·c_max/2]; their code takes it before. At
    least 0; the sum is over the tokens that were tried.

    Args:
        scores: unnormalised scores; finite where a token was tried.
        costs: what each token costs; finite where it was tried.
        mask: the tokens that were tried, at least one in each row; others are not looked at.
        alpha: the scale of the scores; finite and above 0.

    Raises:
        ValueError: where α is out of range, a cost is not finite, or nothing was tried in a row.
    """
    check_alpha(alpha)
    scores, costs = prepared(scores, costs, mask, 0.0)
    middle = costs.amax(-1, keepdim=True) / 2
    return (scores + alpha * (costs - middle)).masked_fill(~mask, 0).square().sum(-1)
