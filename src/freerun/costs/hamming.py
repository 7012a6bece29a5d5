"""The Hamming cost of fixed-length outputs."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.rows import comparable, within


def hamming(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    """The share of cells that are wrong, 1/T Σ_t [y_t ≠ y*_t].

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target: those of its output.

    Returns:
        A cost in [0, 1] for every row, in double precision; a row without tokens costs 0.

    Raises:
        ValueError: where an output is not as long as its target.
    """
    wrong = hamming_total(hypotheses, hypothesis_lengths, references, reference_lengths)
    return wrong / reference_lengths.clamp(min=1)


def hamming_total(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    """The number of cells that are wrong, Σ_t [y_t ≠ y*_t].

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target: those of its output.

    Returns:
        A whole number from 0 to the length for every row, in double precision.

    Raises:
        ValueError: where an output is not as long as its target.
    """
    longer = hypothesis_lengths != reference_lengths
    if longer.any():
        row = int(longer.nonzero()[0])
        raise ValueError(
            f"row {row} has {int(hypothesis_lengths[row])} tokens and its reference "
            f"{int(reference_lengths[row])}; the Hamming cost compares equal lengths: take "
            "edit_distance where lengths may differ"
        )
    hypotheses, references = comparable(
        hypotheses, hypothesis_lengths, references, reference_lengths
    )
    width = min(hypotheses.shape[1], references.shape[1])
    wrong = hypotheses[:, :width] != references[:, :width]
    return (wrong & within(width, reference_lengths)).sum(1).double()
