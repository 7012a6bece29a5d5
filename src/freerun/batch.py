"""What a policy is given: sources, and the targets to train towards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Source:
    """The inputs of a batch of sentences.

    `values` holds tokens, or several tokens per position whose embeddings are summed (a word and
    its suffix, say), or real-valued features (a row of pixels). `mask` is true on them, and false
    on the padding that follows them.
    """

    values: Int[Tensor, "b s"] | Int[Tensor, "b s f"] | Float[Tensor, "b s f"]
    mask: Bool[Tensor, "b s"]

    @property
    def lengths(self) -> Int[Tensor, "b"]:
        """The number of positions of every sentence."""
        return self.mask.sum(1)

    def select(self, rows: Int[Tensor, "n"]) -> Source:
        """The sentences at `rows`, in that order, repeated where named twice."""
        return Source(self.values[rows], self.mask[rows])


@dataclass(frozen=True)
class Batch:
    """Examples to train on.

    `ids` names each example in the whole data set: coins and samples are drawn by it, so that an
    example meets the same ones wherever it stands. `mask` is true on target tokens, eos included,
    and false on the padding that follows them.
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
        """The examples at `rows`, in that order."""
        return Batch(self.ids[rows], self.source.select(rows), self.target[rows], self.mask[rows])

    def tensors(self) -> dict[str, Tensor]:
        """The batch as a flat dictionary, which training loops know how to move to a device."""
        return {
            "ids": self.ids,
            "source": self.source.values,
            "source_mask": self.source.mask,
            "target": self.target,
            "target_mask": self.mask,
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Batch:
        """The batch that `tensors` was made of.

        Raises:
            KeyError: if a tensor is missing.
        """
        source = Source(tensors["source"], tensors["source_mask"])
        return cls(tensors["ids"], source, tensors["target"], tensors["target_mask"])

    def target_tokens(self) -> Int[Tensor, "n"]:
        """The target tokens of all examples, row by row.

        Raises:
            ValueError: if an example has none, and would be left out of a loss in silence.
        """
        empty = (~self.mask.any(1)).nonzero()[:, 0]
        if len(empty):
            raise ValueError(f"example {int(self.ids[empty[0]])} has no target tokens to learn")
        return self.target[self.mask]

    def inputs(self, bos: int) -> Int[Tensor, "b t"]:
        """What teacher forcing feeds: bos, then every target token but the last."""
        return inputs_of(self.target, bos)


def inputs_of(tokens: Int[Tensor, "b t"], bos: int) -> Int[Tensor, "b t"]:
    """What every cell reads where `tokens` are written: bos, then the token before it."""
    return torch.cat([torch.full_like(tokens[:, :1], bos), tokens[:, :-1]], 1)
