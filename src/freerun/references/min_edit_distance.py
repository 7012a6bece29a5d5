"""The optimal reference policy for the edit distance, and the optimal next tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.arguments import check_number, check_values
from freerun.costs import prefix_distances
from freerun.costs.edit_distance import distance_rows
from freerun.costs.rows import by_rows, length_mask, mask_unknown
from freerun.references.suffixes import suffix

_FAR = 2**40
"""More than any distance."""


def _memory(width: int, other: int) -> int:
    """Return how many numbers the temporaries of a row take, given the widths of both sides."""
    return 4 * width + 10 * (other + 1) + 16


@by_rows(_memory)
def min_edit_distance(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Complete every prefix with minimum edit distance to the reference.

    The completion is y*_{j+1}, y*_{j+2}, …, where y*_{1…j} is the prefix of y* that is nearest to
    what was written; of several the longest, which gives the shortest completion. No other sequence
    does better, because an alignment of the whole with y* splits y* at some j. Tokens of y* that
    match nothing add to the distance if they are still to be written.

    Args:
        prefixes: the tokens written so far; values beyond a row's length are ignored.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, without eos.
        unknown: a token that matches nothing, but is appended unchanged.

    Returns:
        The tokens after every prefix, without eos, and their number.
    """
    pairs = (prefixes, prefix_lengths, references, reference_lengths)
    return suffix(references, reference_lengths, nearest_prefixes(*pairs, unknown=unknown))


@by_rows(_memory)
def nearest_prefixes(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Int[Tensor, "n"]:
    """Return the length of the prefix of y* from which the minimum edit distance can be reached.

    Of several such prefixes, it is the longest. Arguments are as in `min_edit_distance`.
    """
    targets = mask_unknown(references, unknown)
    best = _best(prefixes, prefix_lengths, targets, reference_lengths)
    return torch.arange(best.shape[1], device=best.device).where(best, 0).amax(1)


@by_rows(_memory)
def optimal_tokens(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    actions: int,
    eos: int,
    *,
    unknown: int | None = None,
) -> Bool[Tensor, "n {actions}"]:
    """Return the next tokens after which the minimum edit distance can still be reached.

    These are the tokens that continue the prefixes of y* nearest to what was written, and eos after
    y* itself: the targets of optimal completion distillation (Sabour et al. 2019, arXiv 1810.01398,
    section 3.2). If such a prefix is followed by a token that matches nothing, every token but eos
    is optimal.

    Args:
        prefixes: the tokens written so far; values beyond a row's length are ignored.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, without eos.
        actions: the number of tokens that may be written.
        eos: the token that ends a sequence.
        unknown: a token of the target that matches nothing.

    Raises:
        ValueError: if shapes or lengths are wrong, or eos or a token of a target is not an action.
    """
    check_number("eos", eos, 0, actions, below=True)
    there = length_mask(references.shape[1], reference_lengths)
    check_values("references", references.where(there, 0).clamp(min=0), 0, actions - 1)
    targets = mask_unknown(references, unknown).long()
    best = _best(prefixes, prefix_lengths, targets, reference_lengths)
    return mark_next_tokens(targets, reference_lengths, best, actions, eos)


def mark_next_tokens(
    targets: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    best: Bool[Tensor, "n r+1"],
    actions: int,
    eos: int,
) -> Bool[Tensor, "n {actions}"]:
    """Return the tokens that continue some prefixes of the targets, and eos after the whole.

    Args:
        targets: the targets. If a prefix is followed by a negative token, every token but eos
            continues it.
        reference_lengths: the number of tokens of every target, without eos.
        best: which prefixes, by their length; at least one in each row.
        actions: the number of tokens that may be written.
        eos: the token that ends a sequence.
    """
    ends = torch.arange(best.shape[1], device=best.device) == reference_lengths[:, None]
    after = torch.cat([targets, targets.new_full((len(targets), 1), eos)], 1).where(~ends, eos)
    serves = best & (after >= 0)
    free = (best & (after < 0)).any(1, keepdim=True)
    optimal = free & (torch.arange(actions, device=best.device) != eos)
    # Tokens that do not serve are marked in a column of their own, which is cut off.
    marked = torch.cat([optimal, torch.zeros_like(optimal[:, :1])], 1)
    return marked.scatter(1, after.where(serves, actions), True)[:, :actions]


@by_rows(lambda width, other: 12 * (other + 1) + (width + 1) * (other + 1) // 4)
def nearest_prefix_table(
    outputs: Int[Tensor, "n h"],
    output_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> Bool[Tensor, "n h+1 r+1"]:
    """Return, for every prefix of an output, from which prefixes of y* the minimum can be reached.

    One pass over an output takes as long as `nearest_prefixes` of its longest prefix, and gives all
    of them: element (i, j) is about its first i tokens, and the first j of y*. Arguments are as in
    `min_edit_distance`; elements beyond the length of an output are undefined.
    """
    targets = mask_unknown(references, unknown)
    lost = _count_lost(targets, reference_lengths)
    rows = (
        row + lost for row in distance_rows(outputs, output_lengths, targets, reference_lengths)
    )
    return torch.stack([row == row.amin(1, keepdim=True) for row in rows], 1)


def _best(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    targets: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Bool[Tensor, "n r+1"]:
    """Return, by length, the prefixes of every target from which the minimum can be reached."""
    lost = _count_lost(targets, reference_lengths)
    distances = prefix_distances(prefixes, prefix_lengths, targets, reference_lengths) + lost
    return distances == distances.amin(1, keepdim=True)


def _count_lost(
    targets: Int[Tensor, "n r"], reference_lengths: Int[Tensor, "n"]
) -> Int[Tensor, "n r+1"]:
    """Count the tokens after every prefix of a target that match nothing.

    Beyond the length of a target, the count is larger than any distance.
    """
    there = length_mask(targets.shape[1], reference_lengths)
    lost = ((targets < 0) & there).long().flip(1).cumsum(1).flip(1)
    lost = torch.nn.functional.pad(lost, (0, 1))
    return lost.where(length_mask(lost.shape[1], reference_lengths + 1), _FAR)
