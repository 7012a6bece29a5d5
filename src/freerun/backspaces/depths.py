"""How many tokens stand, action by action."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F


def typed(
    actions: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], backspace: int | None
) -> Bool[Tensor, "b t"]:
    """Which actions write a token, eos included."""
    return mask if backspace is None else mask & (actions != backspace)


def depths(typed: Bool[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Int[Tensor, "b u"]:
    """How many tokens stand before each action, and after all: a row has one number more.

    A token adds one, a backspace takes one away, down to none. Actions that are masked out change
    nothing.
    """
    change = typed.long() - (mask & ~typed).long()
    sums = F.pad(change.cumsum(1), (1, 0))
    # A sum that is held at 0 from below is the sum, less the least that it has been.
    return sums - sums.cummin(1).values


def last_typed(depths: Int[Tensor, "b u"], typed: Bool[Tensor, "b t"]) -> Int[Tensor, "b u"]:
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
