"""Work on the scores of many rows, so many at a time that what is made on the way is small."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_CACHED = 2**17
"""Scores on a CPU: what its caches hold. Numbers in the making are then several times quicker."""
_BOUNDED = 2**26
"""Scores on other devices, where few large steps are quickest."""


def by_blocks(make: Callable[..., Tensor], scores: Float[Tensor, "n a"], *more: Tensor) -> Tensor:
    """`make(scores, *more)`, put together from some rows at a time; each row stands for itself."""
    most = _CACHED if scores.device.type == "cpu" else _BOUNDED
    rows = max(1, most // scores.shape[-1])
    if len(scores) <= rows:
        return make(scores, *more)
    blocks = zip(*(each.split(rows) for each in (scores, *more)), strict=True)
    return torch.cat([make(*block) for block in blocks])
