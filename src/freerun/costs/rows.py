"""What batched costs share: which tokens count, and rows taken a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

_CACHED = 2**21
"""Bytes of temporaries on a CPU: what its caches hold, so that every step stays in them."""
_BOUNDED = 2**26
"""Bytes of temporaries on other devices, where few large steps are quickest."""


def by_rows(
    function: Callable[..., Shaped[Tensor, "n ..."]],
    *tensors: Shaped[Tensor, "n ..."],
    row_bytes: int,
) -> Shaped[Tensor, "n ..."]:
    """`function` of a few rows at a time, its results one after another.

    Args:
        function: takes rows of all tensors, and gives as many.
        tensors: one row of each belongs together.
        row_bytes: what the temporaries of one row take.
    """
    most = max(1, (_CACHED if tensors[0].device.type == "cpu" else _BOUNDED) // max(1, row_bytes))
    starts = range(0, max(1, len(tensors[0])), most)
    parts = [function(*(tensor[i : i + most] for tensor in tensors)) for i in starts]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def comparable(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> tuple[Int[Tensor, "n h"], Int[Tensor, "n r"]]:
    """Both sides with negative tokens, and what stands beyond a length, made to equal nothing."""
    return (
        _counted(hypotheses, hypothesis_lengths, nothing=-1),
        _counted(references, reference_lengths, nothing=-2),
    )


def _counted(
    tokens: Int[Tensor, "n t"], lengths: Int[Tensor, "n"], *, nothing: int
) -> Int[Tensor, "n t"]:
    """Tokens as int64, `nothing` where they do not count."""
    counts = within(tokens.shape[1], lengths) & (tokens >= 0)
    return tokens.long().where(counts, nothing)


def within(width: int, lengths: Int[Tensor, "n"]) -> Shaped[Tensor, "n {width}"]:
    """True on the first `lengths` of `width` positions."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]
