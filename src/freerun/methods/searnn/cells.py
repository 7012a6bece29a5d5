"""Which cells of a roll-in are searched."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.randomness import Coordinate, uniform

CellChoice = Literal["all", "uniform", "first", "last"]


def choose_cells(
    mask: Bool[Tensor, "b t"],
    choice: CellChoice,
    count: int | None,
    ids: Int[Tensor, "b"],
    *coordinates: Coordinate,
) -> Bool[Tensor, "b t"]:
    """The cells to search: all of `mask`, or at most `count` of each row.

    Args:
        mask: the cells there are, from the left.
        choice: `uniform` draws without replacement; `first` and `last` take those.
        count: how many of each row; not looked at for `all`.
        ids: names each row in the draw.
        coordinates: name the draw.
    """
    if choice == "all" or count is None:
        return mask
    cells = torch.arange(mask.shape[1], device=mask.device)
    if choice == "first":
        return mask & (cells < count)
    if choice == "last":
        return mask & (cells >= mask.sum(1, keepdim=True) - count)
    drawn = uniform(*coordinates, ids[:, None], cells).masked_fill(~mask, torch.inf)
    rank = drawn.argsort(stable=True, dim=1).argsort(1)
    return mask & (rank < count)
