"""Action sequences as rows of a network: one for every token that was typed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F


def mark_tokens(
    actions: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], backspace: int | None
) -> Bool[Tensor, "b t"]:
    """Which actions write a token, eos included."""
    return mask if backspace is None else mask & (actions != backspace)


def compute_depths(typed: Bool[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Int[Tensor, "b u"]:
    """How many tokens stand before each action, and after all: a row has one number more.

    A token adds one, a backspace takes one away, down to none. Actions that are masked out change
    nothing.
    """
    change = typed.long() - (mask & ~typed).long()
    sums = F.pad(change.cumsum(1), (1, 0))
    # A sum that is held at 0 from below is the sum, less the least that it has been.
    return sums - sums.cummin(1).values


def find_tops(depths: Int[Tensor, "b u"], typed: Bool[Tensor, "b t"]) -> Int[Tensor, "b u"]:
    """Which token is the last that stands before each action: the k-th typed, or 0 where none is.

    The last one that stands is the latest of those that were typed at its depth.
    """
    count = depths.shape[1]
    number = F.pad(torch.where(typed, typed.long().cumsum(1), 0), (1, 0))
    by_depth = depths.argsort(dim=1, stable=True)
    # Of every depth the first to come was typed. Numbers are raised by depth, so that a running
    # maximum starts anew with it.
    raised = torch.where(F.pad(typed, (1, 0)), number + depths * count, 0)
    latest = raised.gather(1, by_depth).cummax(1).values
    return torch.empty_like(depths).scatter(1, by_depth, latest) - depths * count


def apply_backspaces(
    actions: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    *,
    pad: int,
    backspace: int | None,
) -> tuple[Int[Tensor, "b u"], Bool[Tensor, "b u"]]:
    """The tokens that stand after all actions, eos included, and the mask that is true on them.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them, which is ignored.
        pad: what fills shorter rows.
        backspace: the action that withdraws; None where there is none.

    Returns:
        As many columns as the longest row has tokens.
    """
    written = mark_tokens(actions, mask, backspace)
    height = compute_depths(written, mask)
    stays = written & ~_mark_undercut(height, written)
    counts = height[:, -1]
    most = int(counts.max()) if len(counts) else 0
    # What does not stay goes to a column of its own, which is cut off again.
    place = torch.where(stays, height[:, 1:] - 1, most)
    tokens = actions.new_full((len(actions), most + 1), pad).scatter(1, place, actions)[:, :most]
    return tokens, torch.arange(most, device=actions.device) < counts[:, None]


def mark_withdrawn(
    actions: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], *, backspace: int | None
) -> Bool[Tensor, "b t"]:
    """Which actions are tokens that are withdrawn later.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them.
        backspace: the action that withdraws; None where there is none.
    """
    written = mark_tokens(actions, mask, backspace)
    return _mark_undercut(compute_depths(written, mask), written)


def _mark_undercut(height: Int[Tensor, "b u"], typed: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Which tokens do not stand throughout: fewer do at some time after."""
    least_after = height[:, 1:].flip(1).cummin(1).values.flip(1)
    return typed & (least_after < height[:, 1:])


@dataclass(frozen=True)
class Tree:
    """The prefixes that action sequences pass through, as a policy's `force` reads them.

    A row of the network stands for the prefix that ends in its token. After a backspace the state
    is a prefix that was read before, so that nothing new is read. What is typed anew gets a row of
    its own, be it the same token.

    Args:
        tokens: what each row reads: bos first, then every token in the order typed, eos included;
            pad behind.
        parents: the row that it continues; -1 for the first, and 0 for padding.
        mask: true on rows, false on padding.
        tops: `tops[:, i]` is the row whose prefix stands before action i, so that its scores are
            those of action i; the last is what stands after all actions.
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
    """The rows of a network that action sequences need, with no loop over actions.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them, which is ignored.
        bos: what the first row reads.
        pad: what fills the rows of shorter trees.
        backspace: the action that withdraws; None where there is none, and the tree is a chain.

    Returns:
        Trees with as many rows as the largest of them needs, and one top more than actions.
    """
    written = mark_tokens(actions, mask, backspace)
    tops = find_tops(compute_depths(written, mask), written)
    counts = written.sum(1)
    most = int(counts.max()) if len(counts) else 0
    # What is no token goes to a column of its own, which is cut off again.
    place = torch.where(written, written.cumsum(1), most + 1)
    tokens = F.pad(actions.new_full((len(actions), most + 1), pad), (1, 0), value=bos)
    parents = F.pad(torch.zeros_like(tokens[:, 1:]), (1, 0), value=-1)
    return Tree(
        tokens=tokens.scatter(1, place, actions)[:, : most + 1],
        parents=parents.scatter(1, place, tops[:, :-1])[:, : most + 1],
        mask=torch.arange(most + 1, device=actions.device) <= counts[:, None],
        tops=tops,
    )
