"""The Hamming cost of fixed-length outputs."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor


def hamming(
    hypotheses: Int[Tensor, "*rows t"],
    references: Int[Tensor, "*rows t"],
    mask: Bool[Tensor, "*rows t"],
    *,
    normalised: bool = False,
) -> Float[Tensor, "*rows"]:
    """The number of cells that differ, Σ_t [y_t ≠ y*_t], or its share of all cells.

    Args:
        hypotheses: the outputs.
        references: the targets.
        mask: the cells that count.
        normalised: divide by the number of cells that count; a row without any costs 0.

    Returns:
        A cost for every row: a whole number in 0 … t, or in [0, 1] where normalised.
    """
    wrong = ((hypotheses != references) & mask).sum(-1).float()
    return wrong / mask.sum(-1).clamp(min=1) if normalised else wrong
