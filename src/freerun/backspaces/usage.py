"""Count how backspaces were used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from freerun.arguments import check_shapes
from freerun.backspaces.trees import compute_depths, mark_tokens


@dataclass(frozen=True)
class Usage:
    """Counts for each row.

    Args:
        actions: all actions.
        backspaces: the actions that are backspaces.
        withdrawals: the backspaces that withdrew a token; at the prompt there is none to withdraw.
        replaced: the withdrawals after which a token was written in the same place, at once or
            later.
        rewritten: the replaced ones where the new token differs from the withdrawn one.
        right: the rewritten ones where the new token equals the reference; None without
            references.
    """

    actions: Int[Tensor, "b"]
    backspaces: Int[Tensor, "b"]
    withdrawals: Int[Tensor, "b"]
    replaced: Int[Tensor, "b"]
    rewritten: Int[Tensor, "b"]
    right: Int[Tensor, "b"] | None = None


def count_usage(
    actions: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    *,
    backspace: int,
    references: tuple[Int[Tensor, "b r"], Bool[Tensor, "b r"]] | None = None,
) -> Usage:
    """Count how backspaces were used.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them, which is ignored.
        backspace: the action that withdraws.
        references: the targets, eos included, and the mask that is true on them.

    Raises:
        ValueError: if shapes do not match.
    """
    written = mark_tokens(actions, mask, backspace)
    height = compute_depths(written, mask)
    undone = mask & ~written & (height[:, :-1] > 0)
    # In one place, tokens and withdrawals take turns: sorted by place, and by time within it,
    # the neighbors of a withdrawal are the token that it withdrew and the one that replaced it.
    place = torch.where(written | undone, torch.maximum(height[:, :-1], height[:, 1:]), 0)
    order = place.argsort(dim=1, stable=True)
    token, place, undone = (values.gather(1, order) for values in (actions, place, undone))
    before, after = F.pad(token, (1, 0))[:, :-1], F.pad(token, (0, 1))[:, 1:]
    replaced = undone & (F.pad(place, (0, 1))[:, 1:] == place)
    rewritten = replaced & (before != after)
    right = None
    if references is not None:
        known, there = references
        check_shapes(
            actions=(actions, "int b t"),
            **{"the targets": (known, "int b r"), "their mask": (there, "bool b r")},
        )
        wide = max(0, token.shape[1] - known.shape[1])
        known, there = F.pad(known, (0, wide)), F.pad(there, (0, wide))
        index = (place - 1).clamp(min=0)
        right = (rewritten & there.gather(1, index) & (known.gather(1, index) == after)).sum(1)
    return Usage(
        actions=mask.sum(1),
        backspaces=(mask & (actions == backspace)).sum(1),
        withdrawals=undone.sum(1),
        replaced=replaced.sum(1),
        rewritten=rewritten.sum(1),
        right=right,
    )
