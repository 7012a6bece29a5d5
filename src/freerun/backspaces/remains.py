"""What stands in the end."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.backspaces.depths import depths, typed


def remaining(
    actions: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    *,
    pad: int,
    backspace: int | None,
) -> tuple[Int[Tensor, "b u"], Bool[Tensor, "b u"]]:
    """The tokens that stand after all actions, eos included, and the mask that is true on them.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them, which is not looked at.
        pad: what fills shorter rows.
        backspace: the action that withdraws; None where there is none.

    Returns:
        As many columns as the longest row has tokens.
    """
    written = typed(actions, mask, backspace)
    height = depths(written, mask)
    stays = written & ~_undercut(height, written)
    counts = height[:, -1]
    most = int(counts.max()) if len(counts) else 0
    # What does not stay goes to a column of its own, which is cut off again.
    place = torch.where(stays, height[:, 1:] - 1, most)
    tokens = actions.new_full((len(actions), most + 1), pad).scatter(1, place, actions)[:, :most]
    return tokens, torch.arange(most, device=actions.device) < counts[:, None]


def withdrawn(
    actions: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], *, backspace: int | None
) -> Bool[Tensor, "b t"]:
    """Which actions are tokens that are withdrawn later.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them.
        backspace: the action that withdraws; None where there is none.
    """
    written = typed(actions, mask, backspace)
    return _undercut(depths(written, mask), written)


def _undercut(height: Int[Tensor, "b u"], typed: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Which tokens do not stand throughout: fewer do at some time after."""
    least_after = height[:, 1:].flip(1).cummin(1).values.flip(1)
    return typed & (least_after < height[:, 1:])
