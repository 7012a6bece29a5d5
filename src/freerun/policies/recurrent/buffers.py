"""Memory that is used again."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor


class Buffers:
    """Named tensors that keep their memory from one call to the next.

    The system hands out large pieces of fresh memory page by page, which can take longer than the
    arithmetic that fills them.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[tuple[str, torch.dtype], Tensor] = {}

    def get(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor of any content; it is the caller's until the name is asked for again."""
        key, size = (name, dtype or self._like.dtype), prod(shape)
        held = self._held.get(key)
        if held is None or held.numel() < size:
            held = self._held[key] = self._like.new_empty(size, dtype=key[1])
        return held[:size].view(shape)
