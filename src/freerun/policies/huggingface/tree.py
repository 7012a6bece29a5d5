"""Trees of prefixes as attention masks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def ancestors_of(parents: Int[Tensor, "b t"]) -> Bool[Tensor, "b t t"]:
    """For every input of a tree, the inputs on the path to it, itself included.

    Raises:
        ValueError: where a parent does not stand before its input.
    """
    count, length = parents.shape
    cells = torch.arange(length, device=parents.device)
    if bool(((parents >= cells) | (parents < -1)).any()):
        raise ValueError("parents[b, i] must be -1 or the number of an input before input i")
    found = torch.eye(length, dtype=torch.bool, device=parents.device).repeat(count, 1, 1)
    rows = torch.arange(count, device=parents.device)
    for cell in range(1, length):
        parent = parents[:, cell]
        above = found[rows, parent.clamp(min=0)] & (parent >= 0)[:, None]
        found[:, cell] |= above
    return found


def tree_mask(
    ancestors: Bool[Tensor, "b t t"], cells: Int[Tensor, "b s"], dtype: torch.dtype
) -> Float[Tensor, "b 1 s s"]:
    """What is added to the attention of each slot to each slot: 0 where it may look.

    Args:
        ancestors: of every input.
        cells: the input that stands in every slot: below 0 before the inputs, and past the last
            after them.
        dtype: of the scores of attention.
    """
    length = ancestors.shape[1]
    inside = cells.clamp(0, length - 1)
    slots = torch.arange(cells.shape[1], device=cells.device)
    rows = torch.arange(len(cells), device=cells.device)[:, None, None]
    is_input = (cells >= 0) & (cells < length)
    on_path = ancestors[rows, inside[:, :, None], inside[:, None, :]]
    before = (cells[:, None, :] < 0) & (slots <= slots[:, None])
    seen = before | (on_path & is_input[:, :, None] & is_input[:, None, :])
    seen |= slots == slots[:, None]  # padding looks at itself, so that nothing looks nowhere
    nowhere = torch.full(seen.shape, torch.finfo(dtype).min, dtype=dtype, device=seen.device)
    return nowhere.masked_fill(seen, 0.0)[:, None]
