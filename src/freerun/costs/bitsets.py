"""Sets of positions as bits of machine words, for many rows at once.

A set of the positions of a sequence is a column of words: bit i of word w is position
w·WORD_BITS + i. One operation on words compares a position with WORD_BITS positions of the other
sequence.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.costs.rows import mask_padding

WORD_BITS = 63
_ALL = 2**WORD_BITS - 1


def count_bit_words(width: int) -> int:
    """Return how many words hold sets of `width` positions."""
    return max(1, -(-width // WORD_BITS))


def find_matches(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> Int[Tensor, "w h n"]:
    """Find, for every position of a hypothesis, the positions of its token in the reference."""
    own, true = mask_padding(hypotheses, hypothesis_lengths, references, reference_lengths)
    own, true = own.T.contiguous(), true.T.contiguous()
    words = own.new_zeros(count_bit_words(len(true)), *own.shape)
    equal = torch.empty_like(own)
    for j in reversed(range(len(true))):
        word = words[j // WORD_BITS]
        torch.eq(own, true[j], out=equal)
        torch.add(equal, word, alpha=2, out=word)
    return words


def pack(flags: Bool[Tensor, "n r"]) -> Int[Tensor, "w n"]:
    """Make the set of positions where a flag is true."""
    at = torch.arange(WORD_BITS, device=flags.device)
    parts = [(part.long() << at[: part.shape[1]]).sum(1) for part in flags.split(WORD_BITS, 1)]
    return torch.stack(parts)


def unpack(words: Int[Tensor, "w n"], width: int) -> Int[Tensor, "n {width}"]:
    """Return 1 at every position of the set, 0 elsewhere."""
    at = torch.arange(width, device=words.device)
    return (words.T[:, at // WORD_BITS] >> (at % WORD_BITS)) & 1


def suffix_sets(width: int, device: torch.device) -> Int[Tensor, "w {width}+1"]:
    """Return the sets of positions from 0 on, from 1 on, and so on, to the empty one."""
    starts = torch.arange(width + 1, device=device)
    return pack(torch.arange(width, device=device) >= starts[:, None])


def shift(words: Int[Tensor, "w *s"], by: int) -> Int[Tensor, "w *s"]:
    """Move all positions of the set `by` to the left."""
    shifted = words >> by
    if len(words) > 1:
        shifted[:-1] |= (words[1:] << (WORD_BITS - by)) & _ALL
    return shifted


def keep_first(words: Int[Tensor, "w *s"]) -> Int[Tensor, "w *s"]:
    """Keep only the first position of the set."""
    lowest = words & -words
    return lowest if len(words) == 1 else lowest.where((words != 0).cumsum(0) == 1, 0)


def count_positions(words: Int[Tensor, "w *s"]) -> Int[Tensor, "*s"]:
    """Count the positions in the set: bits summed in pairs, in fours, in bytes, in words."""
    bits = words - ((words >> 1) & 0x5555555555555555)
    bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((bits * 0x0101010101010101) >> 56).sum(0)
