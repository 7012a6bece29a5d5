"""The optimal reference policy for the F1 of chunks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.costs.chunks import chunks
from freerun.costs.rows import by_rows
from freerun.references.suffixes import suffix


@by_rows(lambda width, other: 8 * (width + other))
def max_f1(
    prefixes: Int[Tensor, "n p"],
    prefix_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    tags: Int[Tensor, "a"],
    outside: int,
    begins: Int[Tensor, "k"],
) -> tuple[Int[Tensor, "n r"], Int[Tensor, "n"]]:
    """Complete every prefix to the length of its reference such that the F1 of chunks is maximal.

    It copies the reference, with two exceptions. If a chunk of the reference crosses the end of the
    prefix, and the prefix got it wrong, the rest of the chunk is tagged as outside, since a chunk
    there would be a false positive. If the reference begins a chunk with an I- tag, and the prefix
    ends in a chunk of the same kind, a B- tag is written, since the I- tag would continue that
    chunk. So every chunk of the reference that can still be right is right, and each raises F1.

    Args:
        prefixes: the tokens written so far; values beyond a row's length are ignored.
        prefix_lengths: the number of tokens of every prefix.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target.
        tags: the tag of every token, encoded by `freerun.costs.chunk_tags`.
        outside: a token that is outside chunks.
        begins: for every kind of chunk a token that begins one, or -1 if there is none.

    Returns:
        The tokens after every prefix, and their number: 0 if the prefix is at least as long as its
        target.
    """
    true = chunks(references, reference_lengths, tags)
    own = chunks(prefixes, prefix_lengths, tags)
    at = prefix_lengths.long()
    kind = _at(true.kinds, at)
    same = (kind >= 0) & (kind == _at(own.kinds, at - 1))
    right = same & (_last(own.starts, at) == _last(true.starts, at))
    fresh = _at(true.starts.long(), at) == 1
    broken = (kind >= 0) & ~fresh & ~right
    begin = begins.to(at.device)[kind.clamp(min=0)]

    tokens, counts = suffix(references, reference_lengths, at)
    cells = at[:, None] + torch.arange(tokens.shape[1], device=at.device)
    rest = cells < _at(true.ends, at)[:, None]
    tokens = tokens.where(~(broken[:, None] & rest), outside)
    begun = (fresh & same & (begin >= 0))[:, None] & (cells == at[:, None])
    return begin[:, None].to(tokens.dtype).where(begun, tokens), counts


def _at(values: Int[Tensor, "n t"], cells: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Return the value at one cell of every row; -1 if there is no such cell."""
    outside = torch.full_like(cells, -1)[:, None]
    cells = (cells + 1).clamp(0, values.shape[1] + 1)
    return torch.cat([outside, values, outside], 1).gather(1, cells[:, None])[:, 0]


def _last(starts: Bool[Tensor, "n t"], before: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Return the last start before a cell of every row; -1 if there is none."""
    cells = torch.arange(starts.shape[1], device=starts.device)
    starts = starts & (cells < before[:, None])
    none = torch.full_like(before, -1)[:, None]
    return torch.cat([none, cells.where(starts, -1)], 1).amax(1)
