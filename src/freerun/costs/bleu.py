"""Smoothed sentence BLEU as a cost."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.ngrams import matches, possible
from freerun.costs.rows import by_rows


def bleu(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    """1 - BLEU-4 of single sentences, with one added to all counts.

    BLEU = BP · Π_{n=1..4} ((matches_n + 1) / (count_n + 1))^¼, and 0 where no word matches; matches
    are clipped, and count_n are the n-grams of the hypothesis. BP = exp(1 - |y*|/|ŷ|) for a
    hypothesis shorter than its reference, and 1 otherwise. Papineni et al. 2002 (P02-1040), in the
    smoothed form of SEARNN (Leblond et al. 2018, arXiv 1706.04499).

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.

    Returns:
        A cost in [0, 1] for every row, in double precision: 0 for the reference itself, 1 where no
        word matches, so also for an empty hypothesis.
    """
    return _cost(4, hypotheses, hypothesis_lengths, references, reference_lengths)


def bleu_1(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    """1 - BLEU-1 of single sentences: `bleu` of single words.

    BLEU-1 = BP · (matches + 1) / (|ŷ| + 1), and 0 where no word matches.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.

    Returns:
        A cost in [0, 1] for every row, in double precision: 0 for the words of the reference in any
        order, 1 where no word matches, so also for an empty hypothesis.
    """
    return _cost(1, hypotheses, hypothesis_lengths, references, reference_lengths)


def bleu_score(
    matched: Int[Tensor, "n orders"],
    hypothesis_lengths: Int[Tensor, "n"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    """BLEU from the number of matches of every order, one order or four.

    Products of whole numbers are exact, and division and square root are rounded once: equal
    fractions give equal scores, to the bit, on every device.
    """
    orders = matched.shape[1]
    counts = possible(hypothesis_lengths, orders)
    precision = (matched + 1).double().prod(1) / (counts + 1).double().prod(1)
    if orders == 4:
        precision = precision.sqrt().sqrt()
    ratio = reference_lengths / hypothesis_lengths.clamp(min=1).double()
    return torch.exp((1 - ratio).clamp(max=0)) * precision * (matched[:, 0] > 0)


def _cost(orders: int, *pairs: Tensor) -> Float[Tensor, "n"]:
    width = pairs[0].shape[1]
    return by_rows(partial(_few, orders), *pairs, row_bytes=8 * (2 * orders + 3) * max(1, width))


def _few(
    orders: int,
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    matched = matches(hypotheses, hypothesis_lengths, references, reference_lengths, orders)
    return 1 - bleu_score(matched, hypothesis_lengths, reference_lengths)
