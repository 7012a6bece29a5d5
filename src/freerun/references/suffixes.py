"""Reference policies that append a suffix of the reference: from the same position, or the best."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.bitsets import (
    count_bit_words,
    count_positions,
    keep_first,
    pack,
    shift,
    suffix_sets,
)
from freerun.costs.ngrams import bleu_score, claim_ngrams, find_equal_ngrams, gleu_score
from freerun.costs.rows import by_rows, length_mask, mask_unknown


@by_rows(lambda width, other: 2 * other)
def copy(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Copy the reference from this position on: y*_{p+1}, y*_{p+2}, …, whatever the prefix.

    This is the optimal completion under the Hamming cost.

    Args:
        prefixes: the tokens written so far.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets; values beyond a row's length are ignored.
        reference_lengths: the number of tokens of every target, without eos.

    Returns:
        The tokens after every prefix, without eos, and their number: 0 if the prefix is at least
        as long as its target.
    """
    return suffix(references, reference_lengths, prefix_lengths.long())


def suffix(
    references: Int[Tensor, "n r"], reference_lengths: Int[Tensor, "n"], starts: Int[Tensor, "n"]
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Return the tokens of every reference from `starts` on, and their number."""
    width = references.shape[1]
    cells = starts[:, None] + torch.arange(width, device=references.device)
    counts = (reference_lengths - starts).clamp(min=0)
    return references.gather(1, cells.clamp(max=max(0, width - 1))), counts


Score = Callable[
    [Int[Tensor, "orders *s"], Int[Tensor, "*s"], Int[Tensor, "*s"]], Float[Tensor, "*s"]
]
"""A score of the number of n-grams that match, of every order, and of both lengths."""


def _memory(width: int, other: int) -> int:
    """Return how many numbers the temporaries of a row take, given the widths of both sides."""
    return count_bit_words(other) * (8 * width + 20 * (other + 1))


@by_rows(_memory)
def best_suffix_bleu_1(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Append the suffix of the reference that maximizes BLEU-1 of the whole sequence.

    The empty suffix is allowed; the shortest of equally good ones is taken. SEARNN (Leblond et al.
    2018, arXiv 1706.04499) searches with BLEU-1 even if the cost is BLEU-4, because a search with
    BLEU-4 tends to pick the whole reference.

    Args:
        prefixes: the tokens written so far; values beyond a row's length are ignored.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, without eos.
        unknown: a token that never counts as a match; negative ones in references never do. Such
            tokens are appended unchanged.

    Returns:
        The tokens after every prefix, without eos, and their number.
    """
    pairs = (prefixes, prefix_lengths, references, reference_lengths)
    return _best(bleu_score, 1, *pairs, unknown)


@by_rows(_memory)
def best_suffix_bleu(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Append the suffix of the reference that maximizes smoothed BLEU-4 of the whole sequence.

    Arguments, result and ties are as in `best_suffix_bleu_1`.
    """
    pairs = (prefixes, prefix_lengths, references, reference_lengths)
    return _best(bleu_score, 4, *pairs, unknown)


@by_rows(_memory)
def best_suffix_gleu(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Append the suffix of the reference that maximizes GLEU of the whole sequence.

    Arguments, result and ties are as in `best_suffix_bleu_1`.
    """
    pairs = (prefixes, prefix_lengths, references, reference_lengths)
    return _best(gleu_score, 4, *pairs, unknown)


def _best(
    score: Score,
    orders: int,
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    unknown: int | None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    pairs = (prefixes, prefix_lengths, mask_unknown(references, unknown), reference_lengths)
    matched = _matches(*pairs, orders)
    starts = torch.arange(matched.shape[1], device=matched.device)[:, None]
    lengths = (prefix_lengths + reference_lengths - starts).clamp(min=0)
    scores = score(matched, lengths, reference_lengths.expand_as(lengths))
    scores = scores.where(starts <= reference_lengths, -1)
    shortest = starts.where(scores == scores.amax(0), 0).amax(0)
    return suffix(references, reference_lengths, shortest)


def _matches(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    orders: int,
) -> Int[Tensor, "{orders} r+1 n"]:
    """Count the n-grams that match if the suffix from a position on is appended, by position.

    The n-grams of the prefix claim their first equal ones in the reference (see `claim_ngrams`),
    those of the suffix claim themselves, which are the last equal ones; so the two share one only
    if no other is left. Finally, each n-gram across the boundary claims one that is still free.
    """
    pairs = (prefixes, prefix_lengths, references, reference_lengths)
    equal = find_equal_ngrams(*pairs, orders)
    width = references.shape[1]
    words = pack((references >= 0) & length_mask(width, reference_lengths))
    whole, counts = words, []
    ends = [_ending(equal[:, n - 1], prefix_lengths - n) for n in range(1, orders)]
    ahead = _following(references, reference_lengths, orders - 1) if orders > 1 else words
    onward = suffix_sets(width, words.device)[..., None]
    for n, mine in enumerate(claim_ngrams(equal).unbind(1), 1):
        # In this order: prefix, suffix, then the n-1 n-grams across the boundary, with their first
        # m words in the prefix.
        taken = mine[:, None] | (whole[:, None] & onward)
        for m in range(1, n):
            both = ends[m - 1][:, None] & shift(ahead[:, n - m - 1], m)
            taken |= keep_first(both & ~taken)
        counts.append(count_positions(taken))
        whole = whole & shift(words, n)
    return torch.stack(counts)


def _ending(equal: Int[Tensor, "w p n"], starts: Int[Tensor, "n"]) -> Int[Tensor, "w n"]:
    """Return the matches of the n-gram that starts at `starts`; none if that is out of range."""
    here = torch.arange(equal.shape[1], device=equal.device)[:, None] == starts
    return equal.where(here, 0).sum(1)


def _following(
    references: Int[Tensor, "n r"], reference_lengths: Int[Tensor, "n"], orders: int
) -> Int[Tensor, "w {orders} r+1 n"]:
    """Find each n-gram of a reference in that reference; there is none at its end."""
    equal = find_equal_ngrams(references, reference_lengths, references, reference_lengths, orders)
    none = equal.new_zeros(*equal.shape[:2], 1, equal.shape[3])
    return torch.cat([equal, none], 2)
