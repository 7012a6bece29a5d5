"""The edit distance between outputs and references."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.costs.rows import by_rows, comparable, unmatched, within

BITS = 63
_ALL = 2**BITS - 1


def count(width: int) -> int:
    """How many words hold sets of `width` positions."""
    return max(1, -(-width // BITS))


def matching(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "w h n"]:
    """For every position of a hypothesis, the positions of the reference that hold its token."""
    own, true = comparable(hypotheses, hypothesis_lengths, references, reference_lengths)
    own, true = own.T.contiguous(), true.T.contiguous()
    words = own.new_zeros(count(len(true)), *own.shape)
    equal = torch.empty_like(own)
    for j in reversed(range(len(true))):
        word = words[j // BITS]
        torch.eq(own, true[j], out=equal)
        torch.add(equal, word, alpha=2, out=word)
    return words


def packed(flags: Bool[Tensor, "n r"]) -> Int[Tensor, "w n"]:
    """The set of positions where a flag is true."""
    at = torch.arange(BITS, device=flags.device)
    parts = [(part.long() << at[: part.shape[1]]).sum(1) for part in flags.split(BITS, 1)]
    return torch.stack(parts)


def unpacked(words: Int[Tensor, "w n"], width: int) -> Int[Tensor, "n {width}"]:
    """1 at every position of the set, 0 elsewhere."""
    at = torch.arange(width, device=words.device)
    return (words.T[:, at // BITS] >> (at % BITS)) & 1


def from_on(width: int, device: torch.device) -> Int[Tensor, "w {width}+1"]:
    """All positions from 0 on, from 1 on, and so forth, until from `width` on there are none."""
    starts = torch.arange(width + 1, device=device)
    return packed(torch.arange(width, device=device) >= starts[:, None])


def moved(words: Int[Tensor, "w *s"], by: int) -> Int[Tensor, "w *s"]:
    """The positions `by` before those of the set."""
    shifted = words >> by
    if len(words) > 1:
        shifted[:-1] |= (words[1:] << (BITS - by)) & _ALL
    return shifted


def first(words: Int[Tensor, "w *s"]) -> Int[Tensor, "w *s"]:
    """The first position of the set alone."""
    lowest = words & -words
    return lowest if len(words) == 1 else lowest.where((words != 0).cumsum(0) == 1, 0)


def size(words: Int[Tensor, "w *s"]) -> Int[Tensor, "*s"]:
    """The number of positions in the set: bits summed in pairs, in fours, in bytes, in words."""
    bits = words - ((words >> 1) & 0x5555555555555555)
    bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((bits * 0x0101010101010101) >> 56).sum(0)


def _memory(width: int, other: int) -> int:
    """The numbers that a row's temporaries take, by the widths of both sides."""
    return 4 * width + 6 * (other + 1) + 16


def edit_distance(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Float[Tensor, "n"]:
    """The edit distance divided by the length of the reference: the error rate of its tokens.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, eos left out.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        A cost for every row, in double precision: 0 for the reference itself, and at most
        max(1, |ŷ|/|y*|). An empty reference counts as one token long, and so costs |ŷ|.
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
    """The fewest insertions, deletions and substitutions that turn one sequence into the other.

    Levenshtein 1966; computed as `prefix_distances` says.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, eos left out.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        The distance of every row, from the difference of the lengths to the larger of them.
    """
    one, two = (hypotheses, hypothesis_lengths), (unmatched(references, unknown), reference_lengths)
    if hypotheses.shape[1] < references.shape[1]:  # it is symmetric: the shorter side fits a word
        one, two = two, one
    if two[0].shape[1] > BITS:
        return _table(*one, *two).gather(1, two[1].long()[:, None])[:, 0]
    rises, falls = _differences(*one, *two)
    inside = packed(within(two[0].shape[1], two[1]))
    return one[1].long() + size(rises & inside) - size(falls & inside)


@by_rows(_memory)
def prefix_distances(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Int[Tensor, "n r+1"]:
    """The edit distance of every output to all prefixes of its target, the empty one first.

    The last row of the table of Wagner and Fischer 1974. For targets of up to 63 tokens, as wide as
    a machine word: Myers 1999 keeps the differences between neighbours in a row of the table, all
    of them 1, 0 or -1, as two sets of bits, and finds the next row's by a dozen operations on
    words; here in the form of Hyyrö 2003, for the distance of whole sequences.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, eos left out.
        unknown: a token that never counts as a match; negative ones in references never do.

    Returns:
        The distances; those to more tokens than a target has are undefined.
    """
    width = references.shape[1]
    pairs = (hypotheses, hypothesis_lengths, unmatched(references, unknown), reference_lengths)
    if width > BITS:
        return _table(*pairs)
    rises, falls = _differences(*pairs)
    steps = unpacked(rises, width) - unpacked(falls, width)
    return torch.cat([hypothesis_lengths.long()[:, None], steps], 1).cumsum(1)


def _differences(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> tuple[Int[Tensor, "1 n"], Int[Tensor, "1 n"]]:
    """Where the last row of the table rises by one from left to right, and where it falls.

    `higher` and `lower` are where a row of the table exceeds the one above by one, or falls short
    of it, one column to the right; the first column always exceeds.
    """
    equal = matching(hypotheses, hypothesis_lengths, references, reference_lengths)
    written = within(equal.shape[1], hypothesis_lengths).T.contiguous()
    falls = equal.new_zeros(1, equal.shape[2])
    rises = ~falls
    for same, going_on in zip(equal.unbind(1), written, strict=True):
        drops = (((same & rises) + rises) ^ rises) | same
        higher = ((falls | ~(drops | rises)) << 1) | 1
        lower = (rises & drops) << 1
        level = same | falls
        rises = (lower | ~(level | higher)).where(going_on, rises)
        falls = (higher & level).where(going_on, falls)
    return rises, falls


def _table(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n r+1"]:
    """The same for targets of any length.

    All rows advance together, a row of the table at a time: along a row,
    D(i, j) = min(B(j), D(i, j-1) + 1) with B(j) the best way from the row above, so D(i, j) - j is
    the running minimum of B(j) - j, which needs no loop.
    """
    own, true = comparable(hypotheses, hypothesis_lengths, references, reference_lengths)
    offsets = torch.arange(true.shape[1] + 1, device=true.device)
    distances = offsets.repeat(len(true), 1)
    for i in range(own.shape[1]):
        substituted = distances[:, :-1] + (true != own[:, i : i + 1])
        above = distances + 1
        best = torch.cat([above[:, :1], torch.minimum(above[:, 1:], substituted)], 1)
        longer = (best - offsets).cummin(1).values + offsets
        distances = longer.where((i < hypothesis_lengths)[:, None], distances)
    return distances
