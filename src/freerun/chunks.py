"""Sums of losses over many cells, whose scores are never in memory all at once.

With the 50,000 tokens of a language model, the scores of a batch and their gradient take several
times the memory of everything else. So hidden states are projected to scores a few at a time. Where
a gradient is wanted, that of each chunk is computed at once and kept in place of its scores; so
nothing is computed twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

MAX_SCORES = 9 * 2**21
"""The maximum number of scores at a time: 75 MB in single precision, as many as 375 tokens of
50,000 words. The gradient of the weight is added up once for each chunk, so few are faster."""

MAX_COPIED = 2**22
"""The maximum number of values of a weight that are copied to another precision at a time."""

Projection = Callable[[Float[Tensor, "k h"]], Float[Tensor, "k a"]]
SumLoss = Callable[..., Float[Tensor, ""]]
"""A function from the scores of some cells, and more about these cells, to the sum of a loss."""

MapScores = Callable[..., Shaped[Tensor, "k *out"]]
"""A function from the scores of some cells, and more about these cells, to some numbers of each."""


def split_chunks(count: int, width: int) -> Iterator[slice]:
    """Yield slices of `count` cells whose scores, `width` each, are at most `MAX_SCORES`.

    They are of about the same size, as each takes time to add its gradient to that of the weights,
    and a small one is used badly by products.
    """
    parts = max(1, math.ceil(count / max(1, MAX_SCORES // width)))
    size = max(1, math.ceil(count / parts))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def needs_chunks(count: int, width: int) -> bool:
    """Return whether `count` cells have too many scores, `width` each, to be in memory at once."""
    return count > max(1, MAX_SCORES // width)


def sum_in_chunks(
    loss: SumLoss,
    project: Projection,
    hidden: Float[Tensor, "n h"],
    *more: Shaped[Tensor, "n ..."],
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


def map_in_chunks(
    function: MapScores,
    project: Projection,
    hidden: Float[Tensor, "n h"],
    *more: Shaped[Tensor, "n ..."],
    width: int,
) -> Shaped[Tensor, "n *out"]:
    """Compute function(project(hidden), *more), a few numbers for each cell, in chunks of cells.

    For losses that are not sums over cells. The gradient of each chunk is computed when that of its
    numbers is known, and its scores a second time.

    Args:
        function: from the scores of any cells, and `more` of the same cells, to some numbers of
            each; it treats each row alone.
        project: from hidden states to scores; it treats each row alone.
        hidden: the hidden state of each cell.
        more: what else the function needs of each cell; gets no gradient.
        width: the number of scores of a cell.
    """
    chunks = list(split_chunks(len(hidden), width))
    if len(chunks) <= 1:
        return function(project(hidden), *more)

    def compute(states: Tensor, *rest: Tensor) -> Tensor:
        return function(project(states), *rest)

    parts = ((hidden[chunk], *(each[chunk] for each in more)) for chunk in chunks)
    if not torch.is_grad_enabled():
        return torch.cat([compute(*part) for part in parts])
    return torch.cat([checkpoint(compute, *part, use_reentrant=False) for part in parts])


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


class _Gradients(TorchFunctionMode):
    """The gradients of weights, added up over chunks.

    Inside the block, gradients of linear layers are added within their products: a chunk then needs
    no memory for another gradient of the size of the weight, and no time to add it.

    Args:
        weights: the trained parameters.

    Attributes:
        totals: the sum for every weight, by its identity.
    """

    def __init__(self, weights: tuple[Tensor, ...]) -> None:
        super().__init__()
        matrices = (w for w in weights if type(w) is nn.Parameter and w.dim() == 2)
        self._products = {id(w) for w in matrices}
        # In at least single precision: half has too few digits for sums over chunks.
        self.totals: dict[int, Tensor] = {}
        self._converted: dict[int, Tensor] = {}

    def convert(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a weight in the precision of products; all chunks share it."""
        if weight.dtype == dtype:
            return weight
        if id(weight) not in self._converted:
            self._converted[id(weight)] = weight.to(dtype)
        return self._converted[id(weight)]

    def add(self, weight: Tensor, gradient: Tensor) -> None:
        """Add a gradient."""
        if id(weight) in self.totals:
            for total, part in _split_rows(self.totals[id(weight)], gradient):
                total += part
        else:
            self.totals[id(weight)] = gradient.to(_at_least_single(gradient.dtype))

    def add_product(self, weight: Tensor, left: Tensor, right: Tensor) -> None:
        """Add the product of two matrices to the gradient."""
        wanted = _at_least_single(left.dtype)
        if left.dtype != wanted:
            if id(weight) not in self.totals:
                self.totals[id(weight)] = torch.zeros_like(weight, dtype=wanted)
            for total, part in _split_rows(self.totals[id(weight)], left):
                total += part @ right
        elif id(weight) in self.totals:
            self.totals[id(weight)].addmm_(left, right)
        else:
            self.totals[id(weight)] = left @ right

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch; a linear layer of a weight by one that adds its gradient."""
        if func is F.linear and len(args) > 1 and id(args[1]) in self._products:
            inputs, weight, *_ = args
            bias = args[2] if len(args) > 2 else (kwargs or {}).get("bias")
            kind, dtypes = inputs.device.type, {inputs.dtype, weight.dtype}
            # Autocast converts all but double precision.
            if torch.is_autocast_enabled(kind) and torch.float64 not in dtypes:
                return _Linear.apply(inputs.to(torch.get_autocast_dtype(kind)), weight, bias, self)
            if len(dtypes) == 1:
                return _Linear.apply(inputs, weight, bias, self)
        return func(*args, **(kwargs or {}))


class _Linear(torch.autograd.Function):
    """A linear layer whose gradient is added to a sum."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, sums: _Gradients
    ) -> Tensor:
        used = sums.convert(weight, inputs.dtype)
        ctx.save_for_backward(inputs, used)
        ctx.weight, ctx.sums = weight, sums
        return F.linear(inputs, used, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Any:
        inputs, used = ctx.saved_tensors
        ctx.sums.add_product(ctx.weight, outer.flatten(0, -2).t(), inputs.flatten(0, -2))
        own = outer @ used if ctx.needs_input_grad[0] else None
        bias = outer.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        return own, None, bias, None


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
        sums = _Gradients(weights)
        states = torch.empty_like(hidden) if hidden.requires_grad else None
        total = hidden.new_zeros((), dtype=_at_least_single(hidden.dtype))
        for chunk in chunks:
            own = hidden[chunk].detach().requires_grad_(hidden.requires_grad)
            with torch.enable_grad(), sums:
                value = loss(project(own), *(each[chunk] for each in more))
            given = [*weights] if states is None else [*weights, own]
            # Products have added their gradients to the sums already.
            found = torch.autograd.grad(value, given, allow_unused=True) if given else ()
            if states is not None:
                states[chunk] = found[-1]
            for weight, gradient in zip(weights, found, strict=False):
                if gradient is not None:
                    sums.add(weight, gradient)
            del found
            total = total + value.detach()
        ctx.save_for_backward(states, *(sums.totals[id(weight)] for weight in weights))
        ctx.dtypes = [w.dtype for w in weights]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Any:
        states, *sums = ctx.saved_tensors
        weights = [_scale(each, outer, dtype) for each, dtype in zip(sums, ctx.dtypes, strict=True)]
        return (None, None, None, None, None if states is None else states * outer, *weights)


def _scale(total: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the product in another precision; it is not in memory in that of the sum."""
    if total.dtype == dtype:
        return total * factor
    scaled = torch.empty_like(total, dtype=dtype)
    for to, part in _split_rows(scaled, total):
        to.copy_(part * factor)
    return scaled


def _split_rows(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield some rows of tensors at a time, to be copied to another precision."""
    whole = [torch.atleast_1d(tensor) for tensor in tensors]
    width = max(tensor[:1].numel() for tensor in whole)
    rows = max(1, MAX_COPIED // max(1, width))
    return zip(*(tensor.split(rows) for tensor in whole), strict=True)


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
