"""Sets of reference positions as the bits of machine words: one operation for all positions."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from freerun.costs.rows import comparable

BITS = 63
"""Positions in a word: bit j of word w is position 63·w + j. The sign stays free."""
_ALL = 2**BITS - 1


def matching(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "w h n"]:
    """For every position of a hypothesis, the positions of the reference that hold its token.

    Rows come last, so that every operation runs along them.
    """
    hypotheses, references = comparable(
        hypotheses, hypothesis_lengths, references, reference_lengths
    )
    columns, others = hypotheses.T.contiguous(), references.T.contiguous()
    width = len(others)
    words = columns.new_zeros(max(1, -(-width // BITS)), *columns.shape)
    equal = torch.empty_like(columns)
    for i, word in enumerate(words):
        for j in reversed(range(BITS * i, min(width, BITS * (i + 1)))):
            torch.eq(columns, others[j], out=equal)
            torch.add(equal, word, alpha=2, out=word)
    return words


def following(words: Int[Tensor, "w *s"], count: int) -> Int[Tensor, "w *s"]:
    """The positions that stand `count` before those in the set."""
    moved = words >> count
    if len(words) > 1:
        moved[:-1] |= (words[1:] << (BITS - count)) & _ALL
    return moved


def below(lengths: Int[Tensor, "n"], words: int) -> Int[Tensor, "{words} n"]:
    """The positions below a length."""
    starts = BITS * torch.arange(words, device=lengths.device)[:, None]
    ones = torch.ones((), dtype=torch.int64, device=lengths.device)
    counts = (lengths.long() - starts).clamp(0, BITS)
    return (ones << counts) - 1  # 2^63 - 1 where all count: the power wraps around


def size(words: Int[Tensor, "w *s"]) -> Int[Tensor, "*s"]:
    """The number of positions in a set: bits summed in pairs, fours, and bytes."""
    bits = words - ((words >> 1) & 0x5555555555555555)
    bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((bits * 0x0101010101010101) >> 56).sum(0)


def positions(words: Int[Tensor, "w n"], width: int) -> Int[Tensor, "n {width}"]:
    """1 at every position of the set, 0 elsewhere."""
    at = torch.arange(width, device=words.device)
    return (words.T[:, at // BITS] >> (at % BITS)) & 1
