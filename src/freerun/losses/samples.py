"""Losses of whole outputs, as functions of their log-probabilities and costs."""

from __future__ import annotations

import math

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
