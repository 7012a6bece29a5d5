"""n-grams that a hypothesis shares with its reference."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from freerun.costs.words import following, matching, size


def claimed(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    orders: int,
) -> Int[Tensor, "{orders} w n"]:
    """The n-grams of the reference that the hypothesis matches, of order 1 to `orders`.

    Every n-gram of a hypothesis claims the first equal one of the reference that is still free. So
    an n-gram with a occurrences in the one and b in the other claims min(a, b) of them, the first.

    Returns:
        The places where claimed n-grams start, as sets of bits (`costs.words`).
    """
    single = matching(hypotheses, hypothesis_lengths, references, reference_lengths)
    equal = single.new_zeros(orders, *single.shape)
    equal[0] = single
    for n in range(1, orders):
        torch.bitwise_and(equal[n - 1, :, :-n], following(single, n)[:, n:], out=equal[n, :, :-n])
    free = torch.full_like(equal[:, :, 0], -1)
    for i in range(equal.shape[2]):
        open_ = equal[:, :, i] & free
        first = open_ & -open_
        if len(single) > 1:
            first = first.where((open_ != 0).cumsum(1) == 1, 0)
        free ^= first
    return ~free


def matches(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    orders: int,
) -> Int[Tensor, "n {orders}"]:
    """How many n-grams match, of order 1 to `orders`, none more often than the reference has it.

    The clipped counts of BLEU. Negative tokens match nothing.
    """
    sets = claimed(hypotheses, hypothesis_lengths, references, reference_lengths, orders)
    return size(sets.transpose(0, 1)).T


def possible(lengths: Int[Tensor, "n"], orders: int) -> Int[Tensor, "n {orders}"]:
    """How many n-grams a sequence of a length has, of order 1 to `orders`."""
    shorter = torch.arange(orders, device=lengths.device)
    return (lengths.long()[:, None] - shorter).clamp(min=0)
