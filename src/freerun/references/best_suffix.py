"""Reference policies that append the best suffix of the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.bleu import bleu_score
from freerun.costs.cost import unmatched
from freerun.costs.gleu import gleu_score
from freerun.costs.ngrams import claimed, matches
from freerun.costs.rows import by_rows
from freerun.costs.words import positions
from freerun.references.copy import suffix

Score = Callable[[Int[Tensor, "m orders"], Int[Tensor, "m"], Int[Tensor, "m"]], Float[Tensor, "m"]]
"""A score made of the number of matching n-grams of every order, and both lengths."""


def best_suffix_bleu_1(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Of all suffixes of the reference, the one that gives the whole the best BLEU-1.

    The empty suffix is one of them; of equally good ones the shortest is taken. SEARNN (Leblond et
    al. 2018, arXiv 1706.04499) searches with BLEU-1 also where the cost is BLEU-4, as a search with
    BLEU-4 likes to append the whole reference once more.

    All suffixes are scored at once: the word y*_j adds a match to those before it unless as many of
    its kind as stand before j in the reference, and one more, are in the prefix. These are the
    words that the prefix claims (`freerun.costs.ngrams.claimed`).

    Args:
        prefixes: what was written so far; what stands beyond a row's length is not looked at.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.
        unknown: a token that matches nothing, but is appended as it stands.

    Returns:
        The tokens after every prefix, eos left out, and how many they are.
    """
    pairs = (prefixes, prefix_lengths, unmatched(references, unknown), reference_lengths)
    width = prefixes.shape[1] + 8 * references.shape[1]
    starts = by_rows(_closed, *pairs, row_bytes=8 * 3 * max(1, width))
    return suffix(references, reference_lengths, starts)


def best_suffix_bleu(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Of all suffixes of the reference, the one that gives the whole the best `bleu`.

    Arguments and result are those of `best_suffix_bleu_1`. Every suffix is tried: a few hundred
    times the work of one cost.
    """
    pairs = (prefixes, prefix_lengths, references, reference_lengths)
    return _searched(bleu_score, *pairs, unknown=unknown)


def best_suffix_gleu(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Of all suffixes of the reference, the one that gives the whole the best `gleu`.

    Arguments and result are those of `best_suffix_bleu_1`. Every suffix is tried: as much work as
    a cost of as many pairs as a reference has suffixes.
    """
    pairs = (prefixes, prefix_lengths, references, reference_lengths)
    return _searched(gleu_score, *pairs, unknown=unknown)


def _closed(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n"]:
    """Where the best suffix under BLEU-1 starts."""
    width = references.shape[1]
    words = claimed(prefixes, prefix_lengths, references, reference_lengths, 1)[0]
    taken = positions(words, width)
    cells = torch.arange(width, device=references.device)
    gains = (1 - taken) * (references >= 0) * (cells < reference_lengths[:, None])
    gained = torch.cat([gains, torch.zeros_like(reference_lengths[:, None])], 1)
    matched = taken.sum(1, keepdim=True) + gained.flip(1).cumsum(1).flip(1)
    return _latest(bleu_score, matched.flatten()[:, None], prefix_lengths, reference_lengths)


def _searched(
    score: Score,
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    pairs = (prefixes, prefix_lengths, unmatched(references, unknown), reference_lengths)
    width = prefixes.shape[1] + references.shape[1]
    bytes_ = 8 * 12 * (references.shape[1] + 1) * max(1, width)
    starts = by_rows(partial(_tried, score), *pairs, row_bytes=bytes_)
    return suffix(references, reference_lengths, starts)


def _tried(
    score: Score,
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n"]:
    """Where the best suffix starts, by the score of every whole."""
    rows, width = references.shape
    starts = torch.arange(width + 1, device=references.device)
    cells = torch.arange(prefixes.shape[1] + width, device=references.device)
    after = cells - prefix_lengths[:, None]
    # One row of both sides, from which every whole is picked; one more cell, as sides may be empty.
    both = torch.cat([prefixes, references, references.new_zeros(rows, 1)], 1)
    picked = (after[:, None] + starts[:, None]).clamp(max=width) + prefixes.shape[1]
    picked = picked.where((after >= 0)[:, None], cells)
    wholes = both[:, None].expand(-1, width + 1, -1).gather(2, picked).flatten(0, 1)
    lengths = (prefix_lengths[:, None] + reference_lengths[:, None] - starts).clamp(min=0)
    each = references.repeat_interleave(width + 1, 0)
    matched = matches(
        wholes, lengths.flatten(), each, reference_lengths.repeat_interleave(width + 1), 4
    )
    return _latest(score, matched, prefix_lengths, reference_lengths)


def _latest(
    score: Score,
    matched: Int[Tensor, "m orders"],
    prefix_lengths: Int[Tensor, "n"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n"]:
    """The start of the shortest of the best suffixes, of matches for every start of every row."""
    rows = len(prefix_lengths)
    starts = torch.arange(len(matched) // max(1, rows), device=matched.device)
    lengths = (prefix_lengths[:, None] + reference_lengths[:, None] - starts).clamp(min=0)
    each = reference_lengths[:, None].expand_as(lengths).flatten()
    scores = score(matched, lengths.flatten(), each).reshape(lengths.shape)
    scores = scores.where(starts <= reference_lengths[:, None], -1)
    return starts.where(scores == scores.amax(1, keepdim=True), 0).amax(1)
