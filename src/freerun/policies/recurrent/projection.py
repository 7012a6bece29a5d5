"""The token with the largest score, without the scores of all tokens of all rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from freerun.policies.recurrent.buffers import Buffers
from freerun.policies.recurrent.shortlist import Shortlist, has_bfloat16

LARGE = 4096
"""The least number of tokens of a large vocabulary."""
_SCORES = 2**22
"""How many scores are held at once."""


class Projection:
    """The output layer of rows that only write.

    Args:
        layer: from attentional outputs to scores.
        dtype: the precision of its product.
        buffers: memory to work in.
    """

    def __init__(self, layer: nn.Linear, dtype: torch.dtype, buffers: Buffers) -> None:
        self.buffers = buffers
        self.weight, self.bias = layer.weight.to(dtype), layer.bias.to(dtype)
        self.shortlist: Shortlist | None = None
        if dtype == torch.float32 and len(self.bias) >= LARGE and has_bfloat16(self.weight.device):
            self.shortlist = Shortlist(self.weight, self.bias, buffers)

    def best(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        """The token with the largest score of each row, the first where several tie."""
        if self.shortlist is not None:
            return self.shortlist.best(outputs)
        found = [scores.max(1).indices for _, scores in self.scores(outputs)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def scores(self, outputs: Float[Tensor, "n h"]) -> Iterator[tuple[slice, Float[Tensor, "k a"]]]:
        """The scores of some rows at a time, which stand until the next are asked for."""
        actions = len(self.bias)
        many = max(64, _SCORES // actions)
        for start in range(0, len(outputs), many):
            rows = slice(start, start + many)
            some = outputs[rows]
            scores = self.buffers.get("scores", len(some), actions)
            yield rows, torch.addmm(self.bias, some, self.weight.T, out=scores)
