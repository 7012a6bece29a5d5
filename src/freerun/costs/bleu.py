"""Smoothed sentence BLEU as a cost."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.ngrams import matches, memory, possible
from freerun.costs.rows import by_rows, unmatched


@by_rows(partial(memory, 4))
def bleu(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """1 - BLEU-4 of single sentences, with one added to all counts.

    BLEU = BP · Π_{n=1..4} ((matches_n + 1) / (count_n + 1))^¼, and 0 where no word matches; matches
    are clipped, and count_n are the n-grams of the hypothesis. BP = exp(1 - |y*|/|ŷ|) for a
    hypothesis shorter than its reference, and 1 otherwise. Papineni et al. 2002 (P02-1040), in the
    smoothed form of SEARNN (Leblond et al. 2018, arXiv 1706.04499).

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
    return 1 - bleu_score(matches(*pairs, 4), hypothesis_lengths, reference_lengths)


@by_rows(partial(memory, 1))
def bleu_1(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """1 - BLEU-1 of single sentences: `bleu` of single words.

    BLEU-1 = BP · (matches + 1) / (|ŷ| + 1), and 0 where no word matches.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, eos left out.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A cost in [0, 1] for every row, in double precision: 0 for the words of the reference in any
        order, 1 where no word matches, so also for an empty hypothesis.
    """
    pairs = (hypotheses, hypothesis_lengths, unmatched(references, unknown), reference_lengths)
    return 1 - bleu_score(matches(*pairs, 1), hypothesis_lengths, reference_lengths)


def bleu_score(
    matched: Int[Tensor, "orders *s"],
    hypothesis_lengths: Int[Tensor, "*s"],
    reference_lengths: Int[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    """BLEU of the number of matches of every order, of one order or four.

    Products of whole numbers are exact, and division and square root are rounded once: so equal
    fractions give equal scores, to the bit.
    """
    counts = possible(hypothesis_lengths, len(matched))
    precision = (matched + 1).double().prod(0) / (counts + 1).double().prod(0)
    if len(matched) == 4:
        precision = precision.sqrt().sqrt()
    ratio = reference_lengths / hypothesis_lengths.clamp(min=1).double()
    return torch.exp((1 - ratio).clamp(max=0)) * precision * (matched[0] > 0)
