"""Losses of whole outputs, as functions of their log-probabilities and costs."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from freerun.arguments import check_number, check_shapes
from freerun.losses.cell_losses import expectation, prepare_cells


def minimum_risk(
    log_probs: Float[Tensor, "n k"],
    costs: Float[Tensor, "n k"],
    mask: Bool[Tensor, "n k"],
    *,
    kappa: float,
) -> Float[Tensor, "n"]:
    """Compute the risk Σ_y Q(y)·Δ(y), where Q(y) ∝ p(y)^κ over the outputs of an example.

    Shen et al. 2016, arXiv 1512.02433, equations 10 and 11. Q is a softmax of κ·log p, never of
    probabilities, which underflow. Outputs should all be different. Costs are taken minus the
    minimum of the example, a constant that is added to the result again.

    Args:
        log_probs: the log-probability of each output.
        costs: the cost of each output.
        mask: the outputs that count, at least one in each row; others are ignored.
        kappa: κ, the sharpness of Q; finite and above 0. As κ → 0, Q is uniform, and the gradient
            vanishes; as κ → ∞ only the most probable output counts.

    Raises:
        ValueError: if shapes do not match, κ is out of range, a cost is not finite, or nothing
            counts in a row.
    """
    check_number("kappa", kappa, 0, above=True)
    check_shapes(log_probs=(log_probs, "float n k"))
    scores, above = prepare_cells(log_probs, costs, mask, -math.inf)
    least = costs.detach().masked_fill(~mask, math.inf).amin(-1).to(above.dtype)
    return expectation((kappa * scores).softmax(-1), above) + least


def policy_gradient(
    log_probs: Float[Tensor, "n t"],
    costs: Float[Tensor, "n"],
    baselines: Float[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
) -> Float[Tensor, "n"]:
    """Return the cost Δ of each sample, with the gradient Σ_t (Δ - b_t)·∇log p_t of REINFORCE.

    Williams 1992, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
    Learning*, Machine Learning 8. The mean over samples of the policy is the expected cost, and its
    gradient that of the expected cost, if b_t depends on nothing that was drawn from cell t on.
    Neither costs nor baselines have a gradient.

    Args:
        log_probs: the log-probability of each token of a sample.
        costs: the cost of each sample; finite.
        baselines: b_t, an estimate of the cost at each cell; finite.
        mask: the cells whose tokens were drawn from the policy.

    Raises:
        ValueError: if shapes do not match.
    """
    check_shapes(
        log_probs=(log_probs, "float n t"),
        costs=(costs, "float n"),
        baselines=(baselines, "float n t"),
        mask=(mask, "bool n t"),
    )
    log_probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    costs, baselines = costs.detach().to(log_probs.dtype), baselines.detach().to(log_probs.dtype)
    weighted = ((costs[:, None] - baselines) * log_probs).masked_fill(~mask, 0).sum(1)
    return costs + weighted - weighted.detach()


def leave_one_out(costs: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Compute the mean cost of the other samples of an example, for each sample.

    Kool, van Hoof, Welling 2019, *Buy 4 REINFORCE Samples, Get a Baseline for Free!*

    Args:
        costs: the costs of k samples, at least 2, for each example.

    Raises:
        ValueError: if there are fewer than two samples.
    """
    check_shapes(costs=(costs, "float n k"))
    count = costs.shape[1]
    if count < 2:
        raise ValueError(f"costs has {count} samples for each example; it must have at least 2")
    return (costs.sum(1, keepdim=True) - costs) / (count - 1)
