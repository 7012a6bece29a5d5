"""Costs from n-gram matches: BLEU-4, BLEU-1 and GLEU of single sentences."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.bitsets import count_bit_words, count_positions, find_matches, keep_first, shift
from freerun.costs.rows import by_rows, mask_unknown


def find_equal_ngrams(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    orders: int,
) -> Int[Tensor, "w {orders} h n"]:
    """Find where the n-gram at each position of a hypothesis starts in the reference.

    For n from 1 to `orders`, as sets of positions (see `freerun.costs.bitsets`). Two n-grams are
    equal if their first words and the (n-1)-grams after them are.
    """
    words = find_matches(hypotheses, hypothesis_lengths, references, reference_lengths)
    equal = words.new_zeros(len(words), orders, *words.shape[1:])
    equal[:, 0] = words
    for n in range(1, orders):
        rest = shift(words[:, n:], n)
        # In place: a temporary here would raise the peak memory of a block of rows.
        torch.bitwise_and(equal[:, n - 1, : rest.shape[1]], rest, out=equal[:, n, : rest.shape[1]])
    return equal


def claim_ngrams(equal: Int[Tensor, "w o h n"]) -> Int[Tensor, "w o n"]:
    """Match n-grams of the hypothesis to n-grams of the reference, each at most once.

    Each claims the first equal one that is still free. So an n-gram that occurs a times in the
    hypothesis and b times in the reference claims the first min(a, b) occurrences there.
    """
    free = equal.new_full((*equal.shape[:2], equal.shape[3]), -1)
    for here in equal.unbind(2):
        free ^= keep_first(here & free)
    return ~free


def count_matches(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    orders: int,
) -> Int[Tensor, "{orders} n"]:
    """Count the n-grams that match for n from 1 to `orders`: the clipped counts of BLEU."""
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    return count_positions(claim_ngrams(find_equal_ngrams(*pairs, orders)))


def count_ngrams(lengths: Int[Tensor, "*s"], orders: int) -> Int[Tensor, "{orders} *s"]:
    """Count the n-grams in sequences of these lengths, for n from 1 to `orders`."""
    return torch.stack([(lengths.long() - n).clamp(min=0) for n in range(orders)])


def estimate_memory(orders: int, width: int, other: int) -> int:
    """Return the number of elements in the temporaries of a row, given the widths of both sides."""
    return (count_bit_words(other) * (orders + 3) + 3) * (width + 1) + 3 * other


@by_rows(partial(estimate_memory, 4))
def bleu(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """Compute 1 - smoothed BLEU-4 of single sentences.

    BLEU = BP · Π_{n=1..4} ((matches_n + 1) / (count_n + 1))^¼, and 0 if no word matches; matches
    are clipped, and count_n is the number of n-grams of the hypothesis. BP = exp(1 - |y*|/|ŷ|) for
    a hypothesis shorter than its reference, and 1 otherwise. Papineni et al. 2002 (P02-1040), in
    the smoothed form of SEARNN (Leblond et al. 2018, arXiv 1706.04499).

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output, without eos.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, without eos.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A cost in [0, 1] for every row, in double precision: 0 for the reference itself, even if it
        is empty; 1 if no word matches otherwise.

    Raises:
        ValueError: if shapes or lengths are wrong.
    """
    pairs = (hypotheses, hypothesis_lengths, mask_unknown(references, unknown), reference_lengths)
    return 1 - bleu_score(count_matches(*pairs, 4), hypothesis_lengths, reference_lengths)


@by_rows(partial(estimate_memory, 1))
def bleu_1(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """Compute 1 - smoothed BLEU-1 of single sentences: as `bleu`, with n = 1 only.

    BLEU-1 = BP · (matches + 1) / (|ŷ| + 1), and 0 if no word matches. The code of SEARNN's authors
    keeps the exponent ¼ of BLEU-4 here, BP · ((matches + 1) / (|ŷ| + 1))^¼, so their costs are
    smaller, and an α that was tuned for them is not the best one for these.

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output, without eos.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, without eos.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A cost in [0, 1] for every row, in double precision: 0 for the words of the reference in any
        order, even if there are none; 1 if no word matches otherwise.

    Raises:
        ValueError: if shapes or lengths are wrong.
    """
    pairs = (hypotheses, hypothesis_lengths, mask_unknown(references, unknown), reference_lengths)
    return 1 - bleu_score(count_matches(*pairs, 1), hypothesis_lengths, reference_lengths)


def bleu_score(
    matched: Int[Tensor, "orders *s"],
    hypothesis_lengths: Int[Tensor, "*s"],
    reference_lengths: Int[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    """Compute BLEU from the number of matches of every order, of one order or four.

    Two empty sequences are equal, so their BLEU is 1, though no word matches. Products of integers
    are exact, and division and square root are each rounded once, so equal fractions give bitwise
    equal scores.
    """
    counts = count_ngrams(hypothesis_lengths, len(matched))
    precision = (matched + 1).double().prod(0) / (counts + 1).double().prod(0)
    if len(matched) == 4:
        # Square roots are correctly rounded on every device; a power of ¼ is not.
        precision = precision.sqrt().sqrt()
    ratio = reference_lengths / hypothesis_lengths.clamp(min=1).double()
    empty = (hypothesis_lengths == 0) & (reference_lengths == 0)
    return torch.exp((1 - ratio).clamp(max=0)) * precision * ((matched[0] > 0) | empty)


@by_rows(partial(estimate_memory, 4))
def gleu(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """Compute 1 - GLEU of single sentences, from n-grams of 1 to 4 words.

    GLEU = matches / max(n-grams of ŷ, n-grams of y*), the smaller of precision and recall; matches
    are clipped. It needs no brevity penalty and no smoothing. Wu et al. 2016 (arXiv 1609.08144,
    section 5.2).

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output, without eos.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, without eos.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A cost in [0, 1] for every row, in double precision: 0 for the reference itself, even if it
        is empty; 1 if no word matches otherwise.

    Raises:
        ValueError: if shapes or lengths are wrong.
    """
    pairs = (hypotheses, hypothesis_lengths, mask_unknown(references, unknown), reference_lengths)
    return 1 - gleu_score(count_matches(*pairs, 4), hypothesis_lengths, reference_lengths)


def gleu_score(
    matched: Int[Tensor, "orders *s"],
    hypothesis_lengths: Int[Tensor, "*s"],
    reference_lengths: Int[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    """Compute GLEU from the number of matches of every order; 1 for two empty sequences."""
    longer = torch.maximum(hypothesis_lengths, reference_lengths)
    most = count_ngrams(longer, len(matched)).sum(0)
    return (matched.sum(0) / most.clamp(min=1).double()).where(most > 0, 1)
