"""Action sequences as trees of prefixes: the network reads one row for every token written."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from freerun.arguments import check_shapes
from freerun.costs.rows import length_mask


def mark_tokens(
    actions: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], backspace: int | None
) -> Bool[Tensor, "b t"]:
    """Return which actions write a token, eos included.

    Raises:
        ValueError: if shapes do not match.
    """
    check_shapes(actions=(actions, "int b t"), mask=(mask, "bool b t"))
    return mask if backspace is None else mask & (actions != backspace)


def compute_depths(written: Bool[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Int[Tensor, "b u"]:
    """Count the tokens that remain before each action and, in the last column, after all actions.

    A token adds one; a backspace removes one, if there is one. Masked actions change nothing.
    """
    change = written.long() - (mask & ~written).long()
    sums = F.pad(change.cumsum(1), (1, 0))
    # A sum that is clamped at 0 from below is the sum minus its minimum so far.
    return sums - sums.cummin(1).values


def find_tops(depths: Int[Tensor, "b u"], written: Bool[Tensor, "b t"]) -> Int[Tensor, "b u"]:
    """Find the last token that remains before each action: k for the k-th written, 0 for none.

    This is the latest token that was written at its depth.
    """
    count = depths.shape[1]
    number = F.pad(torch.where(written, written.long().cumsum(1), 0), (1, 0))
    by_depth = depths.argsort(dim=1, stable=True)
    # Numbers are raised by depth, so that the running maximum starts anew at each depth.
    raised = torch.where(F.pad(written, (1, 0)), number + depths * count, 0)
    latest = raised.gather(1, by_depth).cummax(1).values
    return torch.empty_like(depths).scatter(1, by_depth, latest) - depths * count


def apply_backspaces(
    actions: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    *,
    pad: int,
    backspace: int | None,
) -> tuple[Int[Tensor, "b u"], Bool[Tensor, "b u"]]:
    """Return the tokens that remain after all actions, eos included, and the mask of them.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them, which is ignored.
        pad: the token that fills shorter rows.
        backspace: the action that withdraws; None if there is none.

    Returns:
        Tokens and mask, as wide as the longest row.

    Raises:
        ValueError: if shapes do not match.
    """
    written = mark_tokens(actions, mask, backspace)
    height = compute_depths(written, mask)
    stays = written & ~_mark_undercut(height, written)
    counts = height[:, -1]
    most = int(counts.max()) if len(counts) else 0
    # Scatter has no mask: tokens that do not remain go to a spare column, which is cut off.
    place = torch.where(stays, height[:, 1:] - 1, most)
    tokens = actions.new_full((len(actions), most + 1), pad).scatter(1, place, actions)[:, :most]
    return tokens, length_mask(most, counts)


def mark_withdrawn(
    actions: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], *, backspace: int | None
) -> Bool[Tensor, "b t"]:
    """Return which actions are tokens that are withdrawn later.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them.
        backspace: the action that withdraws; None if there is none.

    Raises:
        ValueError: if shapes do not match.
    """
    written = mark_tokens(actions, mask, backspace)
    return _mark_undercut(compute_depths(written, mask), written)


def _mark_undercut(height: Int[Tensor, "b u"], written: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Return which tokens are withdrawn: at some later time fewer tokens remain than up to them."""
    least_after = height[:, 1:].flip(1).cummin(1).values.flip(1)
    return written & (least_after < height[:, 1:])


@dataclass(frozen=True)
class Tree:
    """The prefixes that action sequences pass through, as input of `Policy.force`.

    A row of the network represents the prefix that ends in its token. After a backspace the state
    is a prefix that was read before, so no new row is needed. A token that is written again gets a
    row of its own, even if it is the same token.

    Args:
        tokens: the input of each row: bos, then every token in the order written, eos included,
            then pad.
        parents: the row that each row continues; -1 for the first, and 0 for padding.
        mask: true on rows, false on padding.
        tops: `tops[:, i]` is the row of the prefix that remains before action i, so that its scores
            are those of action i; the last is the prefix that remains after all actions.
    """

    tokens: Int[Tensor, "b r"]
    parents: Int[Tensor, "b r"]
    mask: Bool[Tensor, "b r"]
    tops: Int[Tensor, "b u"]


def build_tree(
    actions: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    *,
    bos: int,
    pad: int,
    backspace: int | None,
) -> Tree:
    """Build the trees of action sequences, without a loop over actions.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them, which is ignored.
        bos: the input of the first row.
        pad: the input of padding rows.
        backspace: the action that withdraws; None if there is none; the tree is then a chain.

    Returns:
        Trees padded to the largest of them, with one more top than there are actions.

    Raises:
        ValueError: if shapes do not match.
    """
    written = mark_tokens(actions, mask, backspace)
    tops = find_tops(compute_depths(written, mask), written)
    counts = written.sum(1)
    most = int(counts.max()) if len(counts) else 0
    # Scatter has no mask: what is not a token goes to a spare column, which is cut off.
    place = torch.where(written, written.cumsum(1), most + 1)
    tokens = F.pad(actions.new_full((len(actions), most + 1), pad), (1, 0), value=bos)
    parents = F.pad(torch.zeros_like(tokens[:, 1:]), (1, 0), value=-1)
    return Tree(
        tokens=tokens.scatter(1, place, actions)[:, : most + 1],
        parents=parents.scatter(1, place, tops[:, :-1])[:, : most + 1],
        mask=length_mask(most + 1, counts + 1),
        tops=tops,
    )
