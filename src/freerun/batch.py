"""Batches: sources, and the targets to train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Source:
    """The inputs of a batch of sentences.

    `values` holds tokens, or several tokens per position whose embeddings are summed (a word and
    its suffix, say), or real-valued features (a row of pixels, or the planes of an image). `mask`
    is true on them, and false on the padding that follows them.
    """

    values: Int[Tensor, "b s"] | Int[Tensor, "b s f"] | Float[Tensor, "b s *f"]
    mask: Bool[Tensor, "b s"]

    @property
    def lengths(self) -> Int[Tensor, "b"]:
        """The number of positions of every sentence."""
        return self.mask.sum(1)

    def select(self, rows: Int[Tensor, "n"]) -> Source:
        """Return the sentences at `rows`, in that order; rows may be repeated."""
        return Source(self.values[rows], self.mask[rows])


@dataclass(frozen=True)
class Batch:
    """Examples to train on.

    `ids` identifies each example in the whole data set. Coins and samples are functions of it, so
    they do not depend on the batch that an example is in. `mask` is true on target tokens, eos
    included, and false on the padding that follows them.
    """

    ids: Int[Tensor, "b"]
    source: Source
    target: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]

    @property
    def lengths(self) -> Int[Tensor, "b"]:
        """The number of target tokens of every example."""
        return self.mask.sum(1)

    def select(self, rows: Int[Tensor, "n"]) -> Batch:
        """Return the examples at `rows`, in that order."""
        return Batch(self.ids[rows], self.source.select(rows), self.target[rows], self.mask[rows])

    def tensors(self) -> dict[str, Tensor]:
        """Return the batch as a flat dictionary, which training loops can move to a device."""
        return {
            "ids": self.ids,
            "source": self.source.values,
            "source_mask": self.source.mask,
            "target": self.target,
            "target_mask": self.mask,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Batch:
        """Rebuild the batch from `tensors`.

        Raises:
            KeyError: if a tensor is missing.
        """
        source = Source(tensors["source"], tensors["source_mask"])
        return cls(tensors["ids"], source, tensors["target"], tensors["target_mask"])

    def target_tokens(self) -> Int[Tensor, "n"]:
        """Return the target tokens of all examples, row by row.

        Raises:
            ValueError: if an example has none, and would silently be excluded from the loss.
        """
        empty = (~self.mask.any(1)).nonzero()[:, 0]
        if len(empty):
            raise ValueError(f"example {int(self.ids[empty[0]])} has no target tokens to learn")
        return self.target[self.mask]

    def inputs(self, bos: int) -> Int[Tensor, "b t"]:
        """Return the inputs of teacher forcing: bos, then every target token but the last."""
        return shift_right(self.target, bos)


def shift_right(tokens: Int[Tensor, "b t"], bos: int) -> Int[Tensor, "b t"]:
    """Return the input of each cell: the token before it, or bos at the first cell."""
    return torch.cat([torch.full_like(tokens[:, :1], bos), tokens[:, :-1]], 1)


def join_rows(*parts: Shaped[Tensor, "_ _ *rest"], fill: int = 0) -> Shaped[Tensor, "_ _ *rest"]:
    """Concatenate rows of several widths, padded at their ends to the largest."""
    width = max(part.shape[1] for part in parts)
    wide = [
        pad(part, [*[0, 0] * (part.dim() - 2), 0, width - part.shape[1]], value=fill)
        for part in parts
    ]
    return torch.cat(wide)
