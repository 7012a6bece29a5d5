"""The reference policy that is exact for the edit distance, and the tokens it may begin with."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.costs.cost import unmatched
from freerun.costs.edit_distance import prefix_distances
from freerun.references.copy import suffix


def edit_distance(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    unknown: int | None = None,
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """The completion of least edit distance: the suffix of the reference after its best prefix.

    y*_{j+1}, y*_{j+2}, … for the prefix y*_{1…j} that is nearest to what was written; of equally
    near ones the longest, and so the shortest completion. No sequence of tokens does better, as an
    alignment of the whole with y* splits somewhere. Where tokens of y* match nothing, those still
    to come are added to the distance.

    Args:
        prefixes: what was written so far; what stands beyond a row's length is not looked at.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.
        unknown: a token that matches nothing, but is appended as it stands.

    Returns:
        The tokens after every prefix, eos left out, and how many they are.
    """
    targets = unmatched(references, unknown)
    best = _best(prefixes, prefix_lengths, targets, reference_lengths)
    starts = torch.arange(best.shape[1], device=best.device).where(best, 0).amax(1)
    return suffix(references, reference_lengths, starts)


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
    """The next tokens after which the least edit distance can still be reached.

    Those that continue the prefixes of y* nearest to what was written, eos after y* itself: the
    targets of optimal completion distillation (Sabour et al. 2019, arXiv 1810.01398, section 3.2).
    Where such a prefix is followed by a token that matches nothing, every token but eos serves.

    Args:
        prefixes: what was written so far; what stands beyond a row's length is not looked at.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets, likewise. Negative tokens match nothing.
        reference_lengths: the number of tokens of every target, eos left out.
        actions: the number of tokens that may be written.
        eos: the token that ends a sequence.
        unknown: a token of the target that matches nothing.
    """
    targets = unmatched(references, unknown)
    best = _best(prefixes, prefix_lengths, targets, reference_lengths)
    ends = torch.arange(best.shape[1], device=best.device) == reference_lengths[:, None]
    after = torch.cat([targets.long(), torch.zeros_like(reference_lengths)[:, None]], 1)
    after = after.masked_fill(ends, eos)
    optimal = (best & (after < 0)).any(1, keepdim=True).repeat(1, actions)
    optimal[:, eos] = False
    # What is not best is written where something that is best will be: there always is one.
    first = after.gather(1, (best & (after >= 0)).byte().argmax(1, keepdim=True))
    serves = best & (after >= 0)
    return optimal.scatter(1, after.where(serves, first).clamp(min=0), True)


def _best(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    targets: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Bool[Tensor, "n r+1"]:
    """The prefixes of every target, by length, from which the least distance can be reached."""
    distances = prefix_distances(prefixes, prefix_lengths, targets, reference_lengths)
    cells = torch.arange(distances.shape[1], device=distances.device)
    lost = (targets < 0) & (cells[:-1] < reference_lengths[:, None])
    ahead = torch.cat([lost, torch.zeros_like(distances[:, :1], dtype=torch.bool)], 1)
    distances = distances + ahead.long().flip(1).cumsum(1).flip(1)
    most = prefixes.shape[1] + 2 * targets.shape[1] + 1
    distances = distances.where(cells <= reference_lengths[:, None], most)
    return distances == distances.amin(1, keepdim=True)
