"""Losses of a cell that read its scores as log-probabilities, p = softmax(s).

Leblond, Alayrac, Osokin, Lacoste-Julien 2018, *SEARNN: Training RNNs with Global-Local Losses*,
arXiv 1706.04499. A cell has scores s and, for the tokens that were tried, costs c. Costs are
constants, and count by how far they lie above the least of their cell.

The softmax is over the tokens that were tried, as in the paper where tokens are sub-sampled, or,
with `all_labels`, over all of a row. The functions share these arguments and errors:

- `scores` of n cells for k tokens; where a token was not tried they are looked at only with
  `all_labels`. Half precision is raised to single, and so is the result.
- `costs`, finite where a token was tried; not looked at elsewhere.
- `mask`, true where a token was tried: once at least in each row.
- `alpha`, how much costs count, finite and above 0. Costs in [0, 1] that differ by 1/T between
  tokens need an α of many times T.
- `ties`: of several tokens of least cost, a* is the one with the largest value here, such as a
  uniform number for random choice; None for the first. Finite.
- ValueError where α is out of range, a cost is not finite, or nothing was tried in a row.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from freerun.losses.cells import best, check_alpha, expected, log_target, prepared

UNTRIED = math.log(1e-12)
"""log P_C of tokens that were not tried, where 0 would make a loss infinite."""


def ll(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    ties: Float[Tensor, "n k"] | None = None,
    all_labels: bool = False,
) -> Float[Tensor, "n"]:
    """The log loss of the best token: -log p(a*), a* = argmin_a c(a).

    With costs [a ≠ y*] it is the log loss of y*. At least 0; 0 where one token alone was tried.

    Args:
        scores: unnormalised scores.
        costs: what each token costs.
        mask: the tokens that were tried.
        ties: what decides between tokens of least cost.
        all_labels: take the softmax over all tokens.

    Raises:
        ValueError: where a cost is not finite, or nothing was tried in a row.
    """
    scores, costs = prepared(scores, costs, mask, -math.inf, all_labels=all_labels)
    return -scores.log_softmax(-1).gather(-1, best(costs, mask, ties))[:, 0]


def kl(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
    all_labels: bool = False,
) -> Float[Tensor, "n"]:
    """The cross entropy -Σ_a P_C(a)·log p(a), where P_C(a) ∝ exp(-α·c(a)) over the tried tokens.

    KL(P_C ‖ p) but for the entropy of P_C, which is a constant and the least value of this loss.
    With costs [a ≠ y*]/T of all V tokens it is the log loss of y* with label smoothing
    ε = V·exp(-α/T) / (1 + (V-1)·exp(-α/T)).

    Args:
        scores: unnormalised scores.
        costs: what each token costs.
        mask: the tokens that were tried.
        alpha: how much costs count.
        all_labels: take the softmax over all tokens; P_C is 0 where they were not tried.

    Raises:
        ValueError: where α is out of range, a cost is not finite, or nothing was tried in a row.
    """
    scores, costs = prepared(scores, costs, mask, -math.inf, all_labels=all_labels)
    target = log_target(costs, mask, alpha).exp()
    return -expected(target, scores.log_softmax(-1))


def inverse_kl(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
    all_labels: bool = False,
) -> Float[Tensor, "n"]:
    """KL(p ‖ P_C) = Σ_a p(a)·(log p(a) - log P_C(a)), where P_C(a) ∝ exp(-α·c(a)).

    From the code of the paper's authors. At least 0. As the costs stand in it without an
    exponential, its gradient grows with α.

    Args:
        scores: unnormalised scores.
        costs: what each token costs.
        mask: the tokens that were tried.
        alpha: how much costs count.
        all_labels: take the softmax over all tokens. Where they were not tried, P_C is taken to be
            1e-12, as with 0 there every loss would be infinite.

    Raises:
        ValueError: where α is out of range, a cost is not finite, or nothing was tried in a row.
    """
    scores, costs = prepared(scores, costs, mask, -math.inf, all_labels=all_labels)
    log_probs = scores.log_softmax(-1)
    target = log_target(costs, mask, alpha).masked_fill(~mask, UNTRIED)
    return expected(log_probs.exp(), log_probs - target)


def js(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
    all_labels: bool = False,
) -> Float[Tensor, "n"]:
    """The Jensen-Shannon divergence ½·KL(P_C ‖ M) + ½·KL(p ‖ M), with M = ½·(P_C + p).

    From the code of the paper's authors, which leaves out the entropy of P_C, a constant. In
    [0, log 2].

    Args:
        scores: unnormalised scores.
        costs: what each token costs.
        mask: the tokens that were tried.
        alpha: how much costs count.
        all_labels: take the softmax over all tokens; P_C is 0 where they were not tried.

    Raises:
        ValueError: where α is out of range, a cost is not finite, or nothing was tried in a row.
    """
    scores, costs = prepared(scores, costs, mask, -math.inf, all_labels=all_labels)
    log_probs, log_targets = scores.log_softmax(-1), log_target(costs, mask, alpha)
    probs, targets = log_probs.exp(), log_targets.exp()
    # The logarithm of a sum of nothing has no gradient.
    neither = (probs == 0) & (targets == 0)
    log_probs, log_targets = log_probs.masked_fill(neither, 0), log_targets.masked_fill(neither, 0)
    log_mean = torch.logaddexp(log_probs, log_targets) - math.log(2)
    ours, theirs = expected(probs, log_probs - log_mean), expected(targets, log_targets - log_mean)
    return (ours + theirs) / 2


def llcas(
    scores: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    alpha: float,
    ties: Float[Tensor, "n k"] | None = None,
    all_labels: bool = False,
) -> Float[Tensor, "n"]:
    """The log loss of cost-augmented scores: -log softmax(s + α·c)(a*), a* = argmin_a c(a).

    Dear tokens must lie the further below a*. At least 0, and at least the structured hinge loss.

    Args:
        scores: unnormalised scores.
        costs: what each token costs.
        mask: the tokens that were tried.
        alpha: how much costs count.
        ties: what decides between tokens of least cost.
        all_labels: take the softmax over all tokens; nothing is added to the scores of those that
            were not tried.

    Raises:
        ValueError: where α is out of range, a cost is not finite, or nothing was tried in a row.
    """
    check_alpha(alpha)
    scores, costs = prepared(scores, costs, mask, -math.inf, all_labels=all_labels)
    log_probs = (scores + alpha * costs).log_softmax(-1)
    return -log_probs.gather(-1, best(costs, mask, ties))[:, 0]
