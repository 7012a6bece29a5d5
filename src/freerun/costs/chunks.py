"""Chunks, such as the names in a sentence, and their F1 as a cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.arguments import check_shapes, check_values
from freerun.costs.rows import by_rows, length_mask

_TAG = re.compile(r"(?P<place>[BI])(?:-(?P<kind>.*))?|O|<.*>", re.S)


def chunk_tags(symbols: Sequence[str], unknown: int | None = None) -> Int[Tensor, "a"]:
    """Encode IOB2 tags as integers: 0 is outside, 2k+1 begins a chunk of kind k, 2k+2 continues it.

    Symbols are tags such as `O`, `B-PER` and `I-PER`. Special symbols such as `<eos>`, and
    `unknown`, are outside chunks.

    Raises:
        ValueError: if a symbol is not a tag, or no symbol belongs to a chunk.
    """
    found = [_TAG.fullmatch(symbol) for symbol in symbols]
    for symbol, match in zip(symbols, found, strict=True):
        if match is None:
            raise ValueError(
                f"the symbol {symbol!r} is not an IOB2 tag; chunks need tags such as 'O', "
                "'B-PER' and 'I-PER'"
            )
    kinds = sorted({match["kind"] or "" for match in found if match and match["place"]})
    if not kinds:
        raise ValueError(
            "no symbol belongs to a chunk; chunks need IOB2 tags such as 'B-PER' and 'I-PER'"
        )
    tags = [
        1 + 2 * kinds.index(match["kind"] or "") + (match["place"] == "I")
        if match and match["place"] and i != unknown
        else 0
        for i, match in enumerate(found)
    ]
    return torch.tensor(tags)


@by_rows(lambda width, other: 8 * (width + other))
def chunk_f1(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
    *,
    tags: Int[Tensor, "a"],
) -> Float[Tensor, "n"]:
    """Compute 1 - F1 of the chunks of single sentences.

    F1 = 2·right / (chunks of ŷ + chunks of y*); a chunk is right if start, end and kind are. As in
    conlleval and seqeval, a chunk ends before a tag that begins one, is outside, or is of another
    kind; and a tag that continues nothing begins a chunk. The F1 of two empty sets is 1.
    Tjong Kim Sang and De Meulder 2003 (W03-0419).

    Args:
        hypotheses: the outputs; values beyond a row's length are ignored.
        hypothesis_lengths: the number of tokens of every output, without eos.
        references: the targets, likewise.
        reference_lengths: the number of tokens of every target, without eos.
        tags: the tag of every token, encoded by `chunk_tags`.

    Returns:
        A cost in [0, 1] for every row, in double precision.

    Raises:
        ValueError: if shapes or lengths are wrong, or a token has no tag.
    """
    own = chunks(hypotheses, hypothesis_lengths, tags)
    true = chunks(references, reference_lengths, tags)
    width = min(hypotheses.shape[1], references.shape[1])
    right = own.starts[:, :width] & true.starts[:, :width]
    right &= own.ends[:, :width] == true.ends[:, :width]
    right &= own.kinds[:, :width] == true.kinds[:, :width]
    total = own.starts.sum(1) + true.starts.sum(1)
    return 1 - (2 * right.sum(1).double() / total.clamp(min=1)).where(total > 0, 1)


class Chunks(NamedTuple):
    """The chunks of sentences, by position.

    Attributes:
        starts: whether a chunk starts at the position.
        ends: one past the end of the chunk at the position; undefined outside chunks.
        kinds: the kind of the chunk at the position; -1 outside chunks.
    """

    starts: Bool[Tensor, "n t"]
    ends: Int[Tensor, "n t"]
    kinds: Int[Tensor, "n t"]


def chunks(tokens: Int[Tensor, "n t"], lengths: Int[Tensor, "n"], tags: Int[Tensor, "a"]) -> Chunks:
    """Find the chunks of sentences; `tags` is the tag of every token, encoded by `chunk_tags`."""
    width = tokens.shape[1]
    inside = length_mask(width, lengths)
    check_shapes(tags=(tags, "int a"))
    known = tokens.long().where(inside, 0)
    check_values("tokens", known, 0, len(tags) - 1, what=", as there are tags for these")
    said = tags.to(tokens.device)[known].where(inside, 0)
    kinds = (said - 1).div(2, rounding_mode="floor")
    before = torch.cat([torch.full_like(kinds[:, :1], -1), kinds], 1)[:, :width]
    starts = (said > 0) & ((said % 2 == 1) | (kinds != before))
    cells = torch.arange(width + 1, device=tokens.device)
    breaks = torch.cat([starts | (said == 0), torch.ones_like(inside[:, :1])], 1)
    ends = cells[: breaks.shape[1]].where(breaks, width).flip(1).cummin(1).values.flip(1)
    return Chunks(starts, ends[:, 1:], kinds)
