"""The log loss of reference tokens."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def log_loss(
    scores: Float[Tensor, "n a"], targets: Int[Tensor, "n"], *, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """-Σ_i Σ_a q_i(a)·log softmax(s_i)(a), summed over cells.

    q puts 1-ε on the target and spreads ε = `smoothing` evenly over all tokens, the target
    included (Szegedy et al. 2016, arXiv 1512.00567, section 7).

    Args:
        scores: unnormalised scores of each cell.
        targets: the reference token of each cell.
        smoothing: ε in [0, 1).
    """
    return F.cross_entropy(scores, targets, reduction="sum", label_smoothing=smoothing)
