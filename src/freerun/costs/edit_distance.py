"""The edit distance between outputs and references."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.bitsets import WORD_BITS, count_positions, find_matches, pack, unpack
from freerun.costs.rows import by_rows, length_mask, mask_padding, mask_unknown


def _memory(width: int, other: int) -> int:
    """Return how many numbers the temporaries of a row take, given the widths of both sides."""
    return 4 * width + 6 * (other + 1) + 16


def edit_distance(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """Compute the edit distance divided by the length of the reference, the token error rate.

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output, without eos.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, without eos.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A cost for every row, in double precision: 0 for the reference itself, and at most
        max(1, |ŷ|/|y*|). An empty reference counts as one token long, so its cost is |ŷ|.

    Raises:
        ValueError: if shapes or lengths are wrong.
    """
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    return levenshtein(*pairs, unknown=unknown).double() / reference_lengths.clamp(min=1)


@by_rows(_memory)
def levenshtein(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Int[Tensor, "n"]:
    """Compute the edit distance: the minimum number of insertions, deletions and substitutions.

    Levenshtein 1966; see `prefix_distances` for the algorithm.

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output, without eos.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, without eos.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        The distance of every row, from the difference of the lengths to the larger of them.
    """
    one, two = (
        (hypotheses, hypothesis_lengths),
        (mask_unknown(references, unknown), reference_lengths),
    )
    if hypotheses.shape[1] < references.shape[1]:  # it is symmetric: the shorter side fits a word
        one, two = two, one
    if two[0].shape[1] > WORD_BITS:
        return _table(*one, *two).gather(1, two[1].long()[:, None])[:, 0]
    rises, falls = _differences(*one, *two)
    inside = pack(length_mask(two[0].shape[1], two[1]))
    return one[1].long() + count_positions(rises & inside) - count_positions(falls & inside)


@by_rows(_memory)
def prefix_distances(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Int[Tensor, "n r+1"]:
    """Compute the edit distance of every output to all prefixes of its target, the empty one first.

    This is the last row of the table of Wagner and Fischer 1974. Targets of up to 63 tokens fit in
    a machine word: Myers 1999 stores the differences between neighbors in a row of the table, each
    1, 0 or -1, as two sets of bits, and computes those of the next row by a dozen operations on
    words; here in the form of Hyyrö 2003, for the distance of whole sequences.

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output, without eos.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, without eos.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        The distances; those to more tokens than a target has are undefined.
    """
    width = references.shape[1]
    pairs = (hypotheses, hypothesis_lengths, mask_unknown(references, unknown), reference_lengths)
    if width > WORD_BITS:
        return _table(*pairs)
    rises, falls = _differences(*pairs)
    steps = unpack(rises, width) - unpack(falls, width)
    return torch.cat([hypothesis_lengths.long()[:, None], steps], 1).cumsum(1)


def _differences(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> tuple[Int[Tensor, "1 n"], Int[Tensor, "1 n"]]:
    """Return where the last row of the table rises by one from left to right, and where it falls.

    `higher` and `lower` are where a row of the table is one above, or one below, the previous row,
    shifted by one column; the first column is always above.
    """
    equal = find_matches(hypotheses, hypothesis_lengths, references, reference_lengths)
    written = length_mask(equal.shape[1], hypothesis_lengths).T.contiguous()
    falls = equal.new_zeros(1, equal.shape[2])
    rises = ~falls
    for same, going_on in zip(equal.unbind(1), written, strict=True):
        # The carry of the addition runs through consecutive rises, so it propagates a match along
        # the row of the table in one operation instead of bit by bit.
        drops = (((same & rises) + rises) ^ rises) | same
        # The 1 is the first column, which grows by one per row for the distance of whole sequences;
        # Myers searches for substrings, where that column is zero.
        higher = ((falls | ~(drops | rises)) << 1) | 1
        lower = (rises & drops) << 1
        level = same | falls
        # An output that has ended keeps its last row of the table.
        rises = (lower | ~(level | higher)).where(going_on, rises)
        falls = (higher & level).where(going_on, falls)
    return rises, falls


def _table(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n r+1"]:
    """Compute the same for targets of any length."""
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    distances: Tensor
    for i, row in enumerate(distance_rows(*pairs)):
        distances = row if i == 0 else row.where((i <= hypothesis_lengths)[:, None], distances)
    return distances


def distance_rows(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Iterator[Int[Tensor, "n r+1"]]:
    """Yield the rows of the table of Wagner and Fischer 1974, that of the empty output first.

    Row i has the distances of the first i tokens of every output to all prefixes of its target; it
    is undefined beyond the length of either. All pairs advance together. Along a row,
    D(i, j) = min(B(j), D(i, j-1) + 1), where B(j) is the best path from the row above; so
    D(i, j) - j is the running minimum of B(j) - j, which needs no loop.
    """
    own, true = mask_padding(hypotheses, hypothesis_lengths, references, reference_lengths)
    offsets = torch.arange(true.shape[1] + 1, device=true.device)
    distances = offsets.repeat(len(true), 1)
    yield distances
    for i in range(own.shape[1]):
        substituted = distances[:, :-1] + (true != own[:, i : i + 1])
        above = distances + 1
        best = torch.cat([above[:, :1], torch.minimum(above[:, 1:], substituted)], 1)
        distances = (best - offsets).cummin(1).values + offsets
        yield distances
