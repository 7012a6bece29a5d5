"""The token with the largest score, without the scores of all tokens of all rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from freerun.policies.recurrent.buffers import Buffers
from freerun.policies.recurrent.product import Product
from freerun.policies.recurrent.shortlist import Shortlist, has_bfloat16

LARGE = 2048
"""The least number of tokens of which a shortlist is made: it pays from about half as many."""
_SCORES = {"cpu": 2**22, "cuda": 2**28}
"""How many scores are held at once."""


class Projection:
    """The output layer of rows that only write.

    Args:
        layer: from attentional outputs to scores.
        precision: what its product is computed in.
        buffers: memory to work in.
    """

    def __init__(self, layer: nn.Linear, precision: torch.dtype, buffers: Buffers) -> None:
        self.buffers, self.bias = buffers, layer.bias
        self.product = Product(layer.weight.T, precision, buffers)
        self.shortlist: Shortlist | None = None
        large = len(self.bias) >= LARGE and has_bfloat16(self.bias.device)
        if large and (precision == torch.bfloat16 or self.bias.dtype == torch.float32):
            exact = precision != torch.bfloat16
            self.shortlist = Shortlist(layer.weight, layer.bias, buffers, exact=exact)

    def best(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        """The token with the largest score of each row, the first where several tie."""
        if self.shortlist is not None:
            return self.shortlist.best(outputs)
        found = [scores.max(1).indices for _, scores in self.scores(outputs)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def scores(self, outputs: Float[Tensor, "n h"]) -> Iterator[tuple[slice, Float[Tensor, "k a"]]]:
        """The scores of some rows at a time, which stand until the next are asked for."""
        actions = len(self.bias)
        many = max(64, _SCORES.get(outputs.device.type, 2**22) // actions)
        for start in range(0, len(outputs), many):
            rows = slice(start, start + many)
            some = outputs[rows]
            scores = self.buffers.get("scores", len(some), actions)
            yield rows, self.product.put(scores, some).add_(self.bias)
