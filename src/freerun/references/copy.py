"""The reference policy that copies, and suffixes of the reference in general."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from freerun.costs.rows import by_rows


@by_rows(lambda width, other: 2 * other)
def copy(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Goes on where the reference stands: y*_{p+1}, y*_{p+2}, …, whatever the prefix holds.

    The best completion under the Hamming cost.

    Args:
        prefixes: what was written so far.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets; what stands beyond a row's length is not looked at.
        reference_lengths: the number of tokens of every target, eos left out.

    Returns:
        The tokens after every prefix, eos left out, and how many they are: none where the prefix is
        as long as its target, or longer.
    """
    return suffix(references, reference_lengths, prefix_lengths.long())


def suffix(
    references: Int[Tensor, "n r"], reference_lengths: Int[Tensor, "n"], starts: Int[Tensor, "n"]
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """The tokens of every reference from `starts` on, and how many they are."""
    width = references.shape[1]
    cells = starts[:, None] + torch.arange(width, device=references.device)
    counts = (reference_lengths - starts).clamp(min=0)
    return references.gather(1, cells.clamp(max=max(0, width - 1))), counts
