"""Sums of losses over many cells, whose scores are never in memory all at once.

With the 50,000 tokens of a language model, the scores of a batch and their gradient take several
times the memory of everything else. So hidden states are projected to scores a few at a time. Where
a gradient is wanted, that of each chunk is computed at once and kept in place of its scores; so
nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

MAX_SCORES = 2**24
"""The maximum number of scores at a time: 64 MB in single precision."""

Projection = Callable[[Float[Tensor, "k h"]], Float[Tensor, "k a"]]
SumLoss = Callable[..., Float[Tensor, ""]]
"""A function from the scores of some cells, and more about these cells, to the sum of a loss."""


def split_chunks(count: int, width: int) -> Iterator[slice]:
    """Yield slices of `count` cells whose scores, `width` each, are at most `MAX_SCORES`."""
    size = max(1, MAX_SCORES // width)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def sum_in_chunks(
    loss: SumLoss,
    project: Projection,
    hidden: Float[Tensor, "n h"],
    *more: Shaped[Tensor, "n *rest"],
    width: int,
) -> Float[Tensor, ""]:
    """Compute loss(project(hidden), *more), a sum over cells, a few cells at a time.

    Args:
        loss: a function of the scores of any cells, and of `more` of the same cells.
        project: from hidden states to scores; it treats each row alone.
        hidden: the hidden state of each cell.
        more: what else the loss needs of each cell; gets no gradient.
        width: the number of scores of a cell.
    """
    chunks = list(split_chunks(len(hidden), width))
    if len(chunks) <= 1:
        return loss(project(hidden), *more)
    if not torch.is_grad_enabled():
        parts = [loss(project(hidden[c]), *(each[c] for each in more)) for c in chunks]
        return torch.stack(parts).sum()
    weights = _find_leaves(project(hidden[:1].detach()))
    return _Sum.apply(loss, project, chunks, more, hidden, *weights)


def _find_leaves(scores: Tensor) -> list[Tensor]:
    """Return the trained parameters that scores were computed from."""
    found: dict[int, Tensor] = {}
    todo, seen = [scores.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # the node that accumulates the gradient of a leaf
            found[id(node.variable)] = node.variable
        todo += [following for following, _ in node.next_functions]
    return list(found.values())


class _Sum(torch.autograd.Function):
    """The sum, and the gradient that was computed with it."""

    @staticmethod
    def forward(
        ctx: Any,
        loss: SumLoss,
        project: Projection,
        chunks: list[slice],
        more: tuple[Tensor, ...],
        hidden: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        wanted = hidden.requires_grad
        sums: list[Tensor] = []
        states = torch.empty_like(hidden) if wanted else None
        total = hidden.new_zeros((), dtype=_at_least_single(hidden.dtype))
        for chunk in chunks:
            with torch.enable_grad():
                own = hidden[chunk].detach().requires_grad_(wanted)
                value = loss(project(own), *(each[chunk] for each in more))
                given = [own, *weights] if wanted else list(weights)
                found = list(torch.autograd.grad(value, given)) if given else []
            if states is not None:
                states[chunk] = found.pop(0)
            if sums:
                for each, gradient in zip(sums, found, strict=True):
                    each += gradient
            else:  # half precision has too few digits for sums over chunks
                sums = [gradient.to(_at_least_single(gradient.dtype)) for gradient in found]
            del found
            total = total + value.detach()
        ctx.save_for_backward(states, *sums)
        ctx.dtypes = [w.dtype for w in weights]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Any:
        states, *sums = ctx.saved_tensors
        weights = [(each * outer).to(dtype) for each, dtype in zip(sums, ctx.dtypes, strict=True)]
        return (None, None, None, None, None if states is None else states * outer, *weights)


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
