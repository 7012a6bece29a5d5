"""Helpers of batched costs: masks, and processing rows in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.arguments import check_shapes, check_values

_BYTES = 2**25
"""The maximum size of a block's temporaries: small, but large enough for fast operations."""

PAIR_NAMES = ("hypotheses", "hypothesis_lengths", "references", "reference_lengths")
"""The arguments of a cost."""

Function = TypeVar("Function", bound=Callable[..., Any])


def by_rows(words: Callable[[int, int], int]) -> Callable[[Function], Function]:
    """Make a function of four tensors process their rows in blocks, so that memory is bounded.

    The tensors are those of a `Cost` or a `Reference`, its first four arguments. Results, a tensor
    or a tuple of them, have a row for each of theirs. Shapes and lengths are checked first (see
    `check_pairs`).

    Args:
        words: words(width, other), the number of elements in the temporaries of a row, given the
            widths of both sides.
    """

    def decorate(function: Function) -> Function:
        parameters = signature(function)
        names = list(parameters.parameters)[:4]

        @wraps(function)
        def blockwise(*arguments: Any, **settings: Any) -> Any:
            given = parameters.bind(*arguments, **settings).arguments
            tensors: list[Tensor] = [given.pop(name) for name in names]
            check_pairs(*tensors, names=names)
            rows, (one, other) = len(tensors[0]), (tensors[0].shape[1], tensors[2].shape[1])
            most = max(1, _BYTES // (8 * max(1, words(one, other))))
            parts = [
                function(*(tensor[i : i + most] for tensor in tensors), **given)
                # At least one block, so that the result has the right shape even if there are no
                # rows.
                for i in range(0, max(1, rows), most)
            ]
            if len(parts) == 1:
                return parts[0]
            if isinstance(parts[0], tuple):
                return tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))
            return torch.cat(parts)

        return cast(Function, blockwise)

    return decorate


def check_pairs(*tensors: Tensor, names: Sequence[str] = PAIR_NAMES) -> None:
    """Check hypotheses, their lengths, references and their lengths.

    Args:
        tensors: the four tensors.
        names: the names of the four arguments, for messages.

    Raises:
        ValueError: if they are not integers, shapes do not match, or a length is negative or larger
            than the width of its rows.
    """
    specs = ("int n h", "int n", "int n r", "int n")
    check_shapes(**dict(zip(names, zip(tensors, specs, strict=True), strict=True)))
    for i in (0, 2):
        width = tensors[i].shape[1]
        check_values(names[i + 1], tensors[i + 1], 0, width, what=f", the width of {names[i]}")


def mask_unknown(references: Int[Tensor, "n r"], token: int | None) -> Int[Tensor, "n r"]:
    """Replace `token` in references by -1, which matches nothing."""
    return references if token is None else references.long().where(references != token, -1)


def mask_padding(
    hypotheses: Int[Tensor, "n h"],
    hypothesis_lengths: Int[Tensor, "n"],
    references: Int[Tensor, "n r"],
    reference_lengths: Int[Tensor, "n"],
) -> tuple[Int[Tensor, "n h"], Int[Tensor, "n r"]]:
    """Replace negative tokens and values beyond a length so that they match nothing."""
    counted = length_mask(hypotheses.shape[1], hypothesis_lengths) & (hypotheses >= 0)
    due = length_mask(references.shape[1], reference_lengths) & (references >= 0)
    return hypotheses.long().where(counted, -1), references.long().where(due, -2)


def split_rows(tokens: Int[Tensor, "n t"], lengths: Int[Tensor, "n"]) -> list[list[int]]:
    """Convert rows to lists, in one copy from the device."""
    pairs = zip(tokens.tolist(), lengths.tolist(), strict=True)
    return [row[:length] for row, length in pairs]


def length_mask(width: int, lengths: Int[Tensor, "n"]) -> Bool[Tensor, "n {width}"]:
    """Return a mask that is true on the first `lengths` of `width` positions."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]
