"""The edit distance between outputs and references."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.rows import by_rows, comparable
from freerun.costs.words import BITS, below, matching, positions, size


def edit_distance(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Float[Tensor, "n"]:
    """The edit distance divided by the length of the reference: the error rate of its tokens.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.

    Returns:
        A cost for every row, in double precision: 0 for the reference itself, and at most the
        larger of 1 and |ŷ|/|y*|. An empty reference counts as one of one token: |ŷ|.
    """
    distances = levenshtein(hypotheses, hypothesis_lengths, references, reference_lengths)
    return distances.double() / reference_lengths.clamp(min=1)


def levenshtein(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n"]:
    """The fewest insertions, deletions and substitutions that turn one sequence into the other.

    Levenshtein 1966; computed as `prefix_distances` says.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.

    Returns:
        The distance of every row, from the difference of the lengths to the larger of them.
    """
    if hypotheses.shape[1] < references.shape[1]:  # symmetric: the shorter fits a word sooner
        hypotheses, references = references, hypotheses
        hypothesis_lengths, reference_lengths = reference_lengths, hypothesis_lengths
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    return by_rows(_last, *pairs, row_bytes=_bytes(hypotheses, references))


def prefix_distances(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n r+1"]:
    """The edit distance of every output to all prefixes of its target, the empty one first.

    The last row of the table of Wagner and Fischer 1974. Targets of up to 63 tokens take one
    machine word: Myers 1999 keeps the differences between neighbours of a table's row, all 1, 0 or
    -1, as two sets of bits, and finds the next row's by a dozen operations on words, in the form
    that Hyyrö 2003 gave for the distance of whole sequences.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.

    Returns:
        Distances; what stands beyond a target's length is undefined.
    """
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    return by_rows(_row, *pairs, row_bytes=_bytes(hypotheses, references))


def _bytes(hypotheses: Tensor, references: Tensor) -> int:
    return 8 * (4 * hypotheses.shape[1] + 4 * references.shape[1] + 16)


def _last(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n"]:
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    if references.shape[1] > BITS:
        return _table(*pairs).gather(1, reference_lengths.long()[:, None])[:, 0]
    more, less = _differences(*pairs)
    inside = below(reference_lengths, 1)
    return hypothesis_lengths.long() + size(more & inside) - size(less & inside)


def _row(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "n r+1"]:
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    width = references.shape[1]
    if width > BITS:
        return _table(*pairs)
    more, less = _differences(*pairs)
    steps = positions(more, width) - positions(less, width)
    return torch.cat([hypothesis_lengths.long()[:, None], steps], 1).cumsum(1)


def _differences(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> tuple[Int[Tensor, "1 n"], Int[Tensor, "1 n"]]:
    """Where the last row of the table rises by one, and where it falls."""
    equal = matching(hypotheses, hypothesis_lengths, references, reference_lengths)
    inside = torch.arange(equal.shape[1], device=equal.device)[:, None] < hypothesis_lengths
    rises = torch.full_like(equal[:, 0], -1)
    falls = torch.zeros_like(rises)
    for i in range(equal.shape[1]):
        same = equal[:, i]
        diagonal = same | falls
        below_ = (((same & rises) + rises) ^ rises) | same
        up = ((falls | ~(below_ | rises)) << 1) | 1
        down = (rises & below_) << 1
        rises = (down | ~(diagonal | up)).where(inside[i], rises)
        falls = (up & diagonal).where(inside[i], falls)
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
    hypotheses, references = comparable(
        hypotheses, hypothesis_lengths, references, reference_lengths
    )
    offsets = torch.arange(references.shape[1] + 1, device=references.device)
    distances = offsets.expand(len(references), -1)
    for i in range(hypotheses.shape[1]):
        substituted = distances[:, :-1] + (references != hypotheses[:, i : i + 1])
        above = distances + 1
        best = torch.cat([above[:, :1], torch.minimum(above[:, 1:], substituted)], 1)
        longer = (best - offsets).cummin(1).values + offsets
        distances = longer.where((i < hypothesis_lengths)[:, None], distances)
    return distances
