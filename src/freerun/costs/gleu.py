"""GLEU as a cost."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.ngrams import matches, possible
from freerun.costs.rows import by_rows

ORDERS = 4


def gleu(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    """1 - GLEU: the n-grams of 1 to 4 words that match, out of those of the side that has more.

    GLEU = matches / max(n-grams of ŷ, n-grams of y*), the smaller of precision and recall; matches
    are clipped. It needs no brevity penalty and no smoothing. Wu et al. 2016, arXiv 1609.08144,
    section 5.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.

    Returns:
        A cost in [0, 1] for every row, in double precision: 0 for the reference itself, 1 where no
        word matches, so also for an empty hypothesis.
    """
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    return by_rows(_few, *pairs, row_bytes=8 * (2 * ORDERS + 3) * max(1, hypotheses.shape[1]))


def gleu_score(
    matched: Int[Tensor, "n 4"],
    hypothesis_lengths: Int[Tensor, "n"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    """GLEU from the number of matches of every order."""
    longer = torch.maximum(hypothesis_lengths, reference_lengths)
    most = possible(longer, ORDERS).sum(1)
    return matched.sum(1).double() / most.clamp(min=1)


def _few(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    matched = matches(hypotheses, hypothesis_lengths, references, reference_lengths, ORDERS)
    return 1 - gleu_score(matched, hypothesis_lengths, reference_lengths)
