"""The edit distance between outputs and references."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def edit_distance(
    hypotheses: Int[Tensor, "b h"],
    hypothesis_lengths: Int[Tensor, "b"],
    references: Int[Tensor, "b r"],
    reference_lengths: Int[Tensor, "b"],
) -> Int[Tensor, "b"]:
    """The fewest insertions, deletions and substitutions that turn one sequence into the other.

    Levenshtein 1966. All rows advance together, a row of the table at a time: along a row,
    D(i, j) = min(B(j), D(i, j-1) + 1) with B(j) the best way from the row above, so D(i, j) - j is
    the running minimum of B(j) - j, which needs no loop.

    Args:
        hypotheses: the outputs; what stands beyond a row's length is not looked at.
        hypothesis_lengths: the number of tokens of every output, eos left out.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, eos left out.

    Returns:
        The distance of every row, from the difference of the lengths to the larger of them.
    """
    if references.shape[1] < hypotheses.shape[1]:  # the distance is symmetric: loop the shorter
        hypotheses, references = references, hypotheses
        hypothesis_lengths, reference_lengths = reference_lengths, hypothesis_lengths
    rows, width = references.shape
    offsets = torch.arange(width + 1, device=references.device)
    distances = offsets.expand(rows, -1)
    for i in range(hypotheses.shape[1]):
        substituted = distances[:, :-1] + (references != hypotheses[:, i : i + 1])
        above = distances + 1
        best = torch.cat([above[:, :1], torch.minimum(above[:, 1:], substituted)], 1)
        longer = (best - offsets).cummin(1).values + offsets
        distances = torch.where((i < hypothesis_lengths)[:, None], longer, distances)
    return distances.gather(1, reference_lengths.long()[:, None])[:, 0]
