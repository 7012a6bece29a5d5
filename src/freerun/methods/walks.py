"""What a policy makes of the states that actions lead through."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.backspaces import tree_of
from freerun.batch import Source
from freerun.losses import Walk
from freerun.policy import Policy


def walked(
    policy: Policy,
    source: Source,
    actions: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    *,
    last: bool = True,
) -> Walk:
    """The scores of actions and the values of states, in one pass, each prefix read once.

    Args:
        policy: the model.
        source: what the actions were taken for.
        actions: tokens, eos and backspaces.
        mask: true on them, and false on the padding that follows.
        last: whether the state after the last action is scored, which takes a position more; its
            value is no number otherwise.
    """
    vocabulary = policy.vocabulary
    backspace = vocabulary.backspace
    tree = tree_of(actions, mask, bos=vocabulary.bos, pad=vocabulary.pad, backspace=backspace)
    withdraws = backspace is not None and bool(((actions == backspace) & mask).any())
    trace = policy.force(source, tree.tokens, tree.parents if withdraws else None)
    ended = torch.zeros_like(mask[:, 0])
    if vocabulary.eos is not None:
        ended = ((actions == vocabulary.eos) & mask).any(1)
    rows = tree.mask
    if not last:
        rows = torch.zeros_like(tree.tokens).scatter_add(1, tree.tops[:, :-1], mask.long()) > 0
    return Walk.of(trace.logits(rows), rows, tree.tops, actions, mask, ended)
