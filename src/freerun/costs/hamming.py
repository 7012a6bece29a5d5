"""The Hamming cost of fixed-length outputs."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.rows import by_rows, check_pairs, length_mask, mask_padding, mask_unknown


def hamming(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """Compute the fraction of cells that are wrong, 1/T Σ_t [y_t ≠ y*_t].

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, equal to that of its output.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A cost in [0, 1] for every row, in double precision; a row without tokens costs 0.

    Raises:
        ValueError: if an output is not as long as its target, or shapes or lengths are wrong.
    """
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    return hamming_total(*pairs, unknown=unknown) / reference_lengths.clamp(min=1)


def hamming_total(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """Compute the number of cells that are wrong, Σ_t [y_t ≠ y*_t].

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, equal to that of its output.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A whole number from 0 to the length for every row, in double precision.

    Raises:
        ValueError: if an output is not as long as its target, or shapes or lengths are wrong.
    """
    check_pairs(hypotheses, hypothesis_lengths, references, reference_lengths)
    unlike = hypothesis_lengths != reference_lengths
    if unlike.any():
        row = int(unlike.nonzero()[0])
        raise ValueError(
            f"row {row} has {int(hypothesis_lengths[row])} tokens and its reference "
            f"{int(reference_lengths[row])}; the Hamming cost compares equal lengths: use "
            "edit_distance if they may differ"
        )
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    return _wrong(*pairs, unknown=unknown)


@by_rows(lambda width, other: 3 * (width + other))
def _wrong(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None,
) -> Float[Tensor, "n"]:
    targets = mask_unknown(references, unknown)
    own, true = mask_padding(hypotheses, hypothesis_lengths, targets, reference_lengths)
    width = min(own.shape[1], true.shape[1])
    wrong = (own[:, :width] != true[:, :width]) & length_mask(width, reference_lengths)
    return wrong.sum(1).double()
