"""Multiplication by weights, in the precision of the weights or in a lower one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from freerun.policies.recurrent.buffers import Buffers


class Product:
    """x ↦ x·W, for x of the same precision in and out.

    Args:
        weight: W.
        precision: what is multiplied in; sums outside the product are in the precision of W.
        buffers: memory to work in.
    """

    def __init__(
        self, weight: Float[Tensor, "k m"], precision: torch.dtype, buffers: Buffers
    ) -> None:
        self.exact, self.buffers = weight.dtype == precision, buffers
        self.weight = weight.to(precision)

    def add(self, out: Float[Tensor, "n m"], x: Float[Tensor, "n k"]) -> Float[Tensor, "n m"]:
        """Adds x·W to `out`."""
        return out.addmm_(x, self.weight) if self.exact else out.add_(self._low(x))

    def put(self, out: Float[Tensor, "n m"], x: Float[Tensor, "n k"]) -> Float[Tensor, "n m"]:
        """Makes `out` x·W."""
        return torch.mm(x, self.weight, out=out) if self.exact else out.copy_(self._low(x))

    def _low(self, x: Float[Tensor, "n k"]) -> Float[Tensor, "n m"]:
        shape = (len(x), self.weight.shape[1])
        product = self.buffers.get("product", *shape, dtype=self.weight.dtype)
        return torch.mm(x.to(self.weight.dtype), self.weight, out=product)
