"""Action sequences as rows of a network: one for every token that was typed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from freerun.backspaces.depths import depths, last_typed, typed


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


def tree_of(
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
        mask: true on actions, false on the padding that follows them, which is not looked at.
        bos: what the first row reads.
        pad: what fills the rows of shorter trees.
        backspace: the action that withdraws; None where there is none, and the tree is a chain.

    Returns:
        Trees with as many rows as the largest of them needs, and one top more than actions.
    """
    written = typed(actions, mask, backspace)
    tops = last_typed(depths(written, mask), written)
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
