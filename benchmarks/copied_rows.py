"""The paper's way to read sequences with backspaces: one row per action.

Cundy and Ermon 2024, arXiv 2306.05426, section 3.1: after a backspace, the remaining last
token is read again, and the withdrawn tokens are masked.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.backspaces import Tree


def copied(
    tree: Tree, actions: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], backspace: int
) -> tuple[Int[Tensor, "b u"], Int[Tensor, "b u"], Bool[Tensor, "b u"]]:
    """Return tokens, parents and a mask of rows, where row i + 1 is the state after action i."""
    count, width = tree.tops.shape
    tokens = tree.tokens.gather(1, tree.tops)
    cells = torch.arange(width, device=tokens.device).expand(count, -1)
    # The row in which each prefix of the tree was first read.
    first = cells.new_full(tree.tokens.shape, width)
    first = first.scatter_reduce(1, tree.tops, cells, "amin")
    below = tree.parents.gather(1, tree.tops)
    again = first.gather(1, below.clamp(min=0)).where(below >= 0, -1)
    is_copy = torch.zeros_like(tokens, dtype=torch.bool)
    is_copy[:, 1:] = (actions == backspace) & mask
    parents = torch.where(is_copy, again, cells - 1)
    there = torch.cat([torch.ones_like(mask[:, :1]), mask], 1)
    return tokens, parents.where(there, 0).where(cells > 0, -1), there
