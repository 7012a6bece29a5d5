"""n-grams that a hypothesis shares with its reference, as sets of positions (`costs.words`)."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from freerun.costs.words import count, first, matching, moved, size


def equal_ngrams(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    orders: int,
) -> Int[Tensor, "w {orders} h n"]:
    """For the n-gram at every position of a hypothesis, where equal ones start in the reference.

    For n from 1 to `orders`. An n-gram is equal where its first word is, and what follows.
    """
    words = matching(hypotheses, hypothesis_lengths, references, reference_lengths)
    equal = words.new_zeros(len(words), orders, *words.shape[1:])
    equal[:, 0] = words
    for n in range(1, orders):
        rest = moved(words[:, n:], n)
        torch.bitwise_and(equal[:, n - 1, : rest.shape[1]], rest, out=equal[:, n, : rest.shape[1]])
    return equal


def claimed(equal: Int[Tensor, "w o h n"]) -> Int[Tensor, "w o n"]:
    """The n-grams of the reference that those of the hypothesis match, none of them twice.

    Each claims the first of its equals that is still free. So an n-gram that stands a times in the
    hypothesis and b times in the reference claims min(a, b) there, and the first ones.
    """
    free = equal.new_full((*equal.shape[:2], equal.shape[3]), -1)
    for here in equal.unbind(2):
        free ^= first(here & free)
    return ~free


def matches(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    orders: int,
) -> Int[Tensor, "{orders} n"]:
    """How many n-grams match for n from 1 to `orders`: the clipped counts of BLEU."""
    pairs = (hypotheses, hypothesis_lengths, references, reference_lengths)
    return size(claimed(equal_ngrams(*pairs, orders)))


def possible(lengths: Int[Tensor, "*s"], orders: int) -> Int[Tensor, "{orders} *s"]:
    """How many n-grams a sequence of a length has, for n from 1 to `orders`."""
    return torch.stack([(lengths.long() - n).clamp(min=0) for n in range(orders)])


def memory(orders: int, width: int, other: int) -> int:
    """The numbers that a row's temporaries take in `matches`, by the widths of both sides."""
    return (count(other) * (orders + 3) + 3) * (width + 1) + 3 * other
