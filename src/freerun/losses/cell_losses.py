"""Losses of a cell, as functions of the scores and costs of the tokens that were tried there.

Leblond, Alayrac, Osokin, Lacoste-Julien 2018, *SEARNN: Training RNNs with Global-Local Losses*,
arXiv 1706.04499. Below, s are the scores of a cell, p = softmax(s) over the tokens that were tried,
c their costs minus the minimum of the cell, and a* a token of minimum cost.
"""

from __future__ import annotations

import math
from typing import NoReturn

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.arguments import check_number, check_shapes


def target_distribution(
    costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], alpha: float
) -> Float[Tensor, "n k"]:
    """Compute P_C(a) = exp(-α·c(a)) / Σ_b exp(-α·c(b)) over the tokens of a cell that were tried.

    Leblond et al. 2018, arXiv 1706.04499. As α → ∞ it is uniform over the tokens of minimum cost,
    as α → 0 over all tokens that were tried.

    Args:
        costs: the cost of each token; finite where it was tried, and ignored elsewhere.
        mask: the tokens that were tried, at least one in each row.
        alpha: the factor α of the costs; finite and above 0.

    Returns:
        Probabilities, in at least single precision; 0 where a token was not tried.

    Raises:
        ValueError: if shapes do not match, α is out of range, a cost is not finite, or nothing was
            tried in a row.
    """
    return log_target_distribution(subtract_minimum(costs, mask, torch.float32), mask, alpha).exp()


def log_target_distribution(
    costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], alpha: float
) -> Float[Tensor, "n k"]:
    """Compute log P_C, -∞ where a token was not tried, of costs that are finite everywhere."""
    check_alpha(alpha)
    return (-alpha * costs).masked_fill(~mask, -math.inf).log_softmax(-1)


def check_alpha(alpha: float) -> None:
    """Check the range of α.

    Raises:
        ValueError: if α is not finite and above 0.
    """
    check_number("alpha", alpha, 0, above=True)


def subtract_minimum(
    costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], dtype: torch.dtype
) -> Float[Tensor, "n k"]:
    """Compute c(a) - min_b c(b) without gradient; 0 where a token was not tried.

    Args:
        costs: the cost of each token; ignored where it was not tried.
        mask: the tokens that were tried.
        dtype: the minimum precision; the difference is taken in the higher of this and the costs'.

    Raises:
        ValueError: if shapes do not match, nothing was tried in a row, or a cost is not finite.
    """
    check_shapes(costs=(costs, "float n k"), mask=(mask, "bool n k"))
    right = mask.any(-1) & (costs.isfinite() | ~mask).all(-1)
    if not bool(right.all()):
        _raise_invalid(costs, mask, int(right.int().argmin()))
    costs = costs.detach().to(torch.promote_types(costs.dtype, dtype))
    least = costs.masked_fill(~mask, math.inf).amin(-1, keepdim=True)
    return (costs - least).masked_fill(~mask, 0)


def _raise_invalid(costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], row: int) -> NoReturn:
    if not bool(mask[row].any()):
        raise ValueError(f"row {row} has no token that was tried; each row needs at least one")
    column = int((costs[row].isfinite() | ~mask[row]).int().argmin())
    cost = float(costs[row, column])
    raise ValueError(f"row {row}, column {column}: the cost is {cost}; it must be finite")


def find_best(
    costs: Float[Tensor, "n k"], mask: Bool[Tensor, "n k"], ties: Float[Tensor, "n k"] | None
) -> Int[Tensor, "n 1"]:
    """Return the column of a*, given costs minus the minimum of their cell."""
    least = (costs == 0) & mask
    check_shapes(costs=(costs, "float n k"), ties=(ties, "float n k"))
    if ties is None:
        return least.int().argmax(-1, keepdim=True)
    return ties.masked_fill(~least, -math.inf).argmax(-1, keepdim=True)


def prepare_cells(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    fill: float,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Return scores, and costs minus the minimum of their cell, in at least single precision.

    Scores are `fill` where a token was not tried; costs are 0 there.

    Raises:
        ValueError: if shapes do not match, nothing was tried in a row, or a cost is not finite.
    """
    check_shapes(scores=(scores, "float n k"), costs=(costs, "float n k"), mask=(mask, "bool n k"))
    # Half precision has too few digits for a sum over tokens.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    costs = subtract_minimum(costs, mask, scores.dtype).to(scores.dtype)
    return scores.masked_fill(~mask, fill), costs


def expectation(probs: Float[Tensor, "n k"], values: Float[Tensor, "n k"]) -> Float[Tensor, "n"]:
    """Compute Σ_a p(a)·v(a), where 0 times an infinite value is 0: 0·log 0 = 0."""
    return (probs * values.masked_fill(probs == 0, 0)).sum(-1)


def ll(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    ties: Float[Tensor, "n k"] | None = None,
) -> Float[Tensor, "n"]:
    """Compute the log loss of the best token: -log p(a*), a* = argmin_a c(a).

    With costs [a ≠ y*] it is the log loss of y*. At least 0; 0 if only one token was tried.

    Args:
        scores: unnormalized scores.
        costs: the cost of each token.
        mask: the tokens that were tried.
        ties: break ties between tokens of minimum cost: the largest value wins.

    Raises:
        ValueError: if shapes do not match, a cost is not finite, or nothing was tried in a row.
    """
    scores, costs = prepare_cells(scores, costs, mask, -math.inf)
    return -scores.log_softmax(-1).gather(-1, find_best(costs, mask, ties))[:, 0]


def kl(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
) -> Float[Tensor, "n"]:
    """Compute the cross entropy -Σ_a P_C(a)·log p(a), where P_C(a) ∝ exp(-α·c(a)).

    This is KL(P_C ‖ p) plus the entropy of P_C, a constant, which is the minimum of this loss.
    With costs [a ≠ y*]/T of all V tokens it is the log loss of y* with label smoothing
    ε = V·exp(-α/T) / (1 + (V-1)·exp(-α/T)).

    Args:
        scores: unnormalized scores.
        costs: the cost of each token.
        mask: the tokens that were tried.
        alpha: the factor α of the costs; finite and above 0.

    Raises:
        ValueError: if shapes do not match, α is out of range, a cost is not finite, or nothing was
            tried in a row.
    """
    scores, costs = prepare_cells(scores, costs, mask, -math.inf)
    target = log_target_distribution(costs, mask, alpha).exp()
    return -expectation(target, scores.log_softmax(-1))


def inverse_kl(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
) -> Float[Tensor, "n"]:
    """Compute KL(p ‖ P_C) = Σ_a p(a)·(log p(a) - log P_C(a)), where P_C(a) ∝ exp(-α·c(a)).

    From the code of the paper's authors. At least 0. Costs enter as α·c, without an exponential,
    so the gradient grows with α.

    Args:
        scores: unnormalized scores.
        costs: the cost of each token.
        mask: the tokens that were tried.
        alpha: the factor α of the costs; finite and above 0.

    Raises:
        ValueError: if shapes do not match, α is out of range, a cost is not finite, or nothing was
            tried in a row.
    """
    scores, costs = prepare_cells(scores, costs, mask, -math.inf)
    log_probs = scores.log_softmax(-1)
    # A difference of two infinities has no gradient.
    target = log_target_distribution(costs, mask, alpha).masked_fill(~mask, 0)
    return expectation(log_probs.exp(), log_probs - target)


def js(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
) -> Float[Tensor, "n"]:
    """Compute the Jensen-Shannon divergence ½·KL(P_C ‖ M) + ½·KL(p ‖ M), M = ½·(P_C + p).

    From the code of the paper's authors, which omits the entropy of P_C, a constant. In
    [0, log 2].

    Args:
        scores: unnormalized scores.
        costs: the cost of each token.
        mask: the tokens that were tried.
        alpha: the factor α of the costs; finite and above 0.

    Raises:
        ValueError: if shapes do not match, α is out of range, a cost is not finite, or nothing was
            tried in a row.
    """
    scores, costs = prepare_cells(scores, costs, mask, -math.inf)
    log_probs, log_targets = scores.log_softmax(-1), log_target_distribution(costs, mask, alpha)
    probs, targets = log_probs.exp(), log_targets.exp()
    # The logarithm of a sum of nothing has no gradient.
    neither = (probs == 0) & (targets == 0)
    log_probs, log_targets = log_probs.masked_fill(neither, 0), log_targets.masked_fill(neither, 0)
    log_mean = torch.logaddexp(log_probs, log_targets) - math.log(2)
    ours = expectation(probs, log_probs - log_mean)
    return (ours + expectation(targets, log_targets - log_mean)) / 2


def llcas(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
    ties: Float[Tensor, "n k"] | None = None,
) -> Float[Tensor, "n"]:
    """Compute the log loss of cost-augmented scores: -log softmax(s + α·c)(a*), a* = argmin_a c(a).

    The more a token costs, the further its score must lie below that of a*. At least 0, and at
    least the structured hinge loss.

    Args:
        scores: unnormalized scores.
        costs: the cost of each token.
        mask: the tokens that were tried.
        alpha: the factor α of the costs; finite and above 0.
        ties: break ties between tokens of minimum cost: the largest value wins.

    Raises:
        ValueError: if shapes do not match, α is out of range, a cost is not finite, or nothing was
            tried in a row.
    """
    check_alpha(alpha)
    scores, costs = prepare_cells(scores, costs, mask, -math.inf)
    log_probs = (scores + alpha * costs).log_softmax(-1)
    return -log_probs.gather(-1, find_best(costs, mask, ties))[:, 0]


def structured_hinge(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
    ties: Float[Tensor, "n k"] | None = None,
) -> Float[Tensor, "n"]:
    """Compute the structured hinge max_a (s(a) + α·c(a)) - s(a*) - α·c(a*), a* = argmin_a c(a).

    At least 0, and 0 once every score lies below that of a* by α times the difference in cost. If
    several tokens attain the maximum, they share its gradient.

    Args:
        scores: unnormalized scores; finite where a token was tried.
        costs: the cost of each token; finite where it was tried.
        mask: the tokens that were tried, at least one in each row; others are ignored.
        alpha: the factor α of the costs; finite and above 0.
        ties: of several tokens of minimum cost, a* is the one with the largest value here; finite.
            None for the first.

    Raises:
        ValueError: if shapes do not match, α is out of range, a cost is not finite, or nothing was
            tried in a row.
    """
    check_alpha(alpha)
    scores, costs = prepare_cells(scores, costs, mask, -math.inf)
    augmented = scores + alpha * costs
    return augmented.amax(-1) - augmented.gather(-1, find_best(costs, mask, ties))[:, 0]


def consistent(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
) -> Float[Tensor, "n"]:
    """Compute Σ_a c(a)·log(1 + exp s̃(a)), where s̃(a) = s(a) - mean_b s(b).

    Lee, Lin, Wahba 2004, *Multicategory Support Vector Machines*, with the logistic loss in place
    of the hinge: with enough data and capacity its minimizer chooses the token of minimum expected
    cost. At least 0; sum and mean are over the tokens that were tried.

    Args:
        scores: unnormalized scores; finite where a token was tried.
        costs: the cost of each token; finite where it was tried.
        mask: the tokens that were tried, at least one in each row; others are ignored.

    Raises:
        ValueError: if shapes do not match, a cost is not finite, or nothing was tried in a row.
    """
    scores, costs = prepare_cells(scores, costs, mask, 0.0)
    centered = scores - scores.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)
    return (costs * torch.logaddexp(centered, torch.zeros_like(centered))).sum(-1)


def l2(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
) -> Float[Tensor, "n"]:
    """Compute Σ_a (s(a) + α·(c(a) - c_max/2))², a regression of scores on negative costs.

    From the code of the paper's authors. c_max is the largest cost after the minimum is subtracted,
    so the targets lie in [-α·c_max/2, α·c_max/2]; their code takes it before. At least 0; the sum
    is over the tokens that were tried.

    Args:
        scores: unnormalized scores; finite where a token was tried.
        costs: the cost of each token; finite where it was tried.
        mask: the tokens that were tried, at least one in each row; others are ignored.
        alpha: the scale of the scores; finite and above 0.

    Raises:
        ValueError: if shapes do not match, α is out of range, a cost is not finite, or nothing was
            tried in a row.
    """
    check_alpha(alpha)
    scores, costs = prepare_cells(scores, costs, mask, 0.0)
    middle = costs.amax(-1, keepdim=True) / 2
    return (scores + alpha * (costs - middle)).masked_fill(~mask, 0).square().sum(-1)
