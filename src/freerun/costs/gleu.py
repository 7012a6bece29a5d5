"""GLEU as a cost."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.ngrams import matches, memory, possible
from freerun.costs.rows import by_rows, unmatched


@by_rows(partial(memory, 4))
def gleu(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """1 - GLEU: the n-grams of 1 to 4 words that match, out of those of the side that has more.

    GLEU = matches / max(n-grams of ŷ, n-grams of y*), the smaller of precision and recall; matches
    are clipped. It needs no brevity penalty and no smoothing. Wu et al. 2016 (arXiv 1609.08144,
    section 5.2).

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, eos left out.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A cost in [0, 1] for every row, in double precision: 0 for the reference itself, 1 where no
        word matches, so also for an empty hypothesis.
    """
    pairs = (hypotheses, hypothesis_lengths, unmatched(references, unknown), reference_lengths)
    return 1 - gleu_score(matches(*pairs, 4), hypothesis_lengths, reference_lengths)


def gleu_score(
    matched: Int[Tensor, "orders *s"],
    hypothesis_lengths: Int[Tensor, "*s"],
    reference_lengths: Int[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    """GLEU of the number of matches of every order."""
    longer = torch.maximum(hypothesis_lengths, reference_lengths)
    most = possible(longer, len(matched)).sum(0)
    return matched.sum(0) / most.clamp(min=1).double()
