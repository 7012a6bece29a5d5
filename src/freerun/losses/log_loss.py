"""The log loss of reference tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def log_loss(
    scores: Float[Tensor, "n a"], targets: Int[Tensor, "n"], *, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """-Σ_i Σ_a q_i(a)·log softmax(s_i)(a), summed over cells.

    q puts 1-ε on the target and spreads ε = `smoothing` evenly over all tokens, the target
    included (Szegedy et al. 2016, arXiv 1512.00567, section 7). No target is passed over: what is
    no token, such as a label of -100, is an error.

    Args:
        scores: unnormalised scores of each cell.
        targets: the reference token of each cell.
        smoothing: ε in [0, 1).

    Raises:
        RuntimeError: where a target is no token.
    """
    # Half precision has too few digits for a sum over cells.
    log_probs = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(-1)
    loss = -log_probs.gather(-1, targets[:, None]).sum()
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * log_probs.mean(-1).sum()
    return loss
