"""The token with the largest score, without the scores of all tokens of all rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F


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


GROUP = 128
"""Tokens whose largest score is looked at first."""
ROWS = {"cpu": 256, "cuda": 8192}
"""Rows at a time: on a CPU as many as its caches hold, on a GPU as many as keep it busy."""
MOST = 8
"""Candidates of a row, on average, above which the plain product is the cheaper way."""
ROUNDING = 2.0**-8 * (1 + 2.0**-7)
"""How far a number may be from its rounding to bfloat16, relative to the latter."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 much faster than in single precision."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older torch
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class Shortlist:
    """argmax_j h·w_j + b_j, exactly, mostly by a product in bfloat16.

    With h̃ and w̃ rounded to bfloat16, |h·w - h̃·w̃| ≤ ‖h - h̃‖·‖w‖ + ‖h̃‖·‖w - w̃‖ (Cauchy and
    Schwarz), to which the rounding of sum and result is added. Only tokens whose scores lie within
    these bounds of the largest are computed in double precision; of equal ones, the first is taken.

    Args:
        weight: w, a row for each token.
        bias: b.
        buffers: memory to work in.
        exact: left out, the product in bfloat16 has the last word.
    """

    def __init__(
        self,
        weight: Float[Tensor, "a h"],
        bias: Float[Tensor, "a"],
        buffers: Buffers,
        *,
        exact: bool = True,
    ) -> None:
        self.weight, self.bias, self.buffers, self.exact = weight, bias, buffers, exact
        missing = -len(bias) % GROUP
        few = weight.bfloat16()
        # The bias is the product of two more columns with 1: its leading digits, and the next.
        first = bias.bfloat16()
        second = (bias - first).bfloat16()
        self.few = torch.cat([first[:, None], second[:, None], few], 1)
        self.few = F.pad(self.few, (0, -self.few.shape[1] % 8, 0, missing))  # as products want it
        self.few[len(bias) :, 0] = -torch.inf
        lost = (bias - first.float() - second.float()).abs()
        # A sum is rounded as often as it has terms; twice that, for the rounding of these bounds.
        summed, norm = 2.0**-23 * self.few.shape[1], weight.norm(dim=1)
        norm_lost = (weight - few.float()).norm(dim=1) + summed * norm
        norms = (1 + summed) * torch.stack([norm, norm_lost])
        self.norms = torch.stack([self._groups(values, missing) for values in norms])
        self.bias_lost = self._groups(lost + summed * bias.abs(), missing)

    @staticmethod
    def _groups(values: Float[Tensor, "a"], missing: int) -> Float[Tensor, "g"]:
        return F.pad(values, (0, missing)).view(-1, GROUP).amax(1)

    def best(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        """The token with the largest score of each row."""
        return torch.cat(
            [self._best(some) for some in outputs.split(ROWS.get(outputs.device.type, 256))]
        )

    def _best(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        few, most = outputs.bfloat16(), MOST * len(outputs)
        scores = self.buffers.get("few", len(few), len(self.few), dtype=torch.bfloat16)
        with _summed_in_single():
            torch.mm(self._with_ones(few), self.few.T, out=scores)
        scores = scores.view(len(few), -1, GROUP)
        largest = _largest(scores)
        if not self.exact:
            if bool((largest.amax(1) < 0).any()):
                largest = scores.amax(2).float()
            groups = largest.argmax(1)
            numbers = torch.arange(len(few), device=few.device)
            return GROUP * groups + scores[numbers, groups].float().argmax(1)
        slack = self._slack(outputs, few.float())
        least = (largest - slack).sub_(largest.abs(), alpha=ROUNDING).amax(1, keepdim=True)
        most_there = largest.clamp(min=0).mul_(1 + ROUNDING).add_(slack)
        rows, groups = (most_there >= least).nonzero().unbind(1)
        if len(rows) > most:
            return self._plainly(outputs)
        least = least[rows] - slack[rows, groups, None]
        there = scores[rows, groups].float()
        which, places = (there.add_(there.abs(), alpha=ROUNDING) >= least).nonzero().unbind(1)
        if len(which) > most:
            return self._plainly(outputs)
        return self._decided(outputs, rows[which], GROUP * groups[which] + places)

    def _with_ones(self, few: Float[Tensor, "n h"]) -> Float[Tensor, "n k"]:
        """Two ones, by which the columns of the bias are multiplied, then the outputs."""
        joined = few.new_zeros(len(few), self.few.shape[1])
        joined[:, :2], joined[:, 2 : 2 + few.shape[1]] = 1, few
        return joined

    def _slack(
        self, outputs: Float[Tensor, "n h"], few: Float[Tensor, "n h"]
    ) -> Float[Tensor, "n g"]:
        """How far the sums of a group may be from the scores, before they are rounded."""
        lost = torch.stack([(outputs - few).norm(dim=1), few.norm(dim=1)], 1)
        return torch.addmm(self.bias_lost, lost, self.norms)

    def _decided(
        self, outputs: Float[Tensor, "n h"], rows: Int[Tensor, "k"], tokens: Int[Tensor, "k"]
    ) -> Int[Tensor, "n"]:
        """The best candidate of each row; they come with the tokens of a row in order."""
        weights, bias = self.weight[tokens].double(), self.bias[tokens].double()
        scores = (weights * outputs[rows].double()).sum(1) + bias
        best = scores.new_full((len(outputs),), -torch.inf)
        best = best.scatter_reduce(0, rows, scores, "amax")
        none = len(rows)
        numbers = torch.arange(none, device=rows.device).where(scores == best[rows], none)
        first = rows.new_full((len(outputs),), none).scatter_reduce(0, rows, numbers, "amin")
        if bool((first == none).any()):  # scores that are no numbers
            return self._plainly(outputs)
        return tokens[first]

    def _plainly(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        scores = self.buffers.get("scores", len(outputs), len(self.bias))
        return torch.addmm(self.bias, outputs, self.weight.T, out=scores).argmax(1)


@contextmanager
def _summed_in_single() -> Iterator[None]:
    """Sums in single precision, of which the bounds are; on GPUs PyTorch may do with less."""
    flags = torch.backends.cuda.matmul
    allowed = flags.allow_bf16_reduced_precision_reduction
    flags.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        flags.allow_bf16_reduced_precision_reduction = allowed


def _largest(scores: Shaped[Tensor, "n g k"]) -> Float[Tensor, "n g"]:
    """The largest score of every group that has one of at least 0; any negative one of the others.

    Numbers that are not negative are ordered as their bits are, read as whole numbers, and those
    are compared several times as fast. Other bits make negative whole numbers.
    """
    return scores.view(torch.int16).amax(2).view(torch.bfloat16).float()


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
