"""The token with the largest score, without the scores of all tokens of all rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from freerun.models.recurrent.kernels import Buffers, Product

GROUP_SIZE = 128
"""The number of tokens of a group; the largest score of each group is looked at first."""
BLOCK_ROWS = {"cpu": 256, "cuda": 8192}
"""Rows at a time: on a CPU as many as its caches hold, on a GPU as many as keep it busy."""
MAX_CANDIDATES_PER_ROW = 8
"""The mean number of candidates per row above which the plain product is faster."""
ROUNDING = 2.0**-8 * (1 + 2.0**-7)
"""The maximum distance of a number from its rounding to bfloat16, relative to the latter."""


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies much faster in bfloat16 than in single precision."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older versions of torch cannot tell.
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class Shortlist:
    """The exact argmax_j h·w_j + b_j, mostly from a product in bfloat16.

    With h̃ and w̃ rounded to bfloat16, |h·w - h̃·w̃| ≤ ‖h - h̃‖·‖w‖ + ‖h̃‖·‖w - w̃‖ (Cauchy and
    Schwarz), to which the rounding of sum and result is added. Only tokens whose scores lie within
    these bounds of the largest are computed in double precision; in case of ties, the first is
    taken.

    Args:
        weight: w, a row for each token.
        bias: b.
        buffers: memory to work in.
        exact: whether to compute candidates in double precision; if not, the product in bfloat16
            decides.
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
        missing = -len(bias) % GROUP_SIZE
        rounded = weight.bfloat16()
        # The bias is two more columns, its leading digits and the next ones, which multiply 1.
        first = bias.bfloat16()
        second = (bias - first).bfloat16()
        self.rounded = torch.cat([first[:, None], second[:, None], rounded], 1)
        # Kernels are fastest if the inner dimension is a multiple of 8; groups must be complete.
        self.rounded = F.pad(self.rounded, (0, -self.rounded.shape[1] % 8, 0, missing))
        self.rounded[len(bias) :, 0] = -torch.inf
        lost = (bias - first.float() - second.float()).abs()
        # A sum of k terms is rounded k times by 2^-24; twice that, as these bounds are rounded too.
        summed, norm = 2.0**-23 * self.rounded.shape[1], weight.norm(dim=1)
        norm_lost = (weight - rounded.float()).norm(dim=1) + summed * norm
        norms = (1 + summed) * torch.stack([norm, norm_lost])
        self.norms = torch.stack([self._max_by_group(values, missing) for values in norms])
        self.bias_lost = self._max_by_group(lost + summed * bias.abs(), missing)

    @staticmethod
    def _max_by_group(values: Float[Tensor, "a"], missing: int) -> Float[Tensor, "g"]:
        return F.pad(values, (0, missing)).view(-1, GROUP_SIZE).amax(1)

    def argmax(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        """Return the token with the largest score of each row."""
        blocks = outputs.split(BLOCK_ROWS.get(outputs.device.type, BLOCK_ROWS["cpu"]))
        return torch.cat([self._argmax_block(block) for block in blocks])

    def _argmax_block(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        low, most = outputs.bfloat16(), MAX_CANDIDATES_PER_ROW * len(outputs)
        scores = self.buffers.get(
            "rounded scores", len(low), len(self.rounded), dtype=torch.bfloat16
        )
        with _full_precision_sums():
            torch.mm(self._append_ones(low), self.rounded.T, out=scores)
        scores = scores.view(len(low), -1, GROUP_SIZE)
        largest = _find_group_maxima(scores)
        if not self.exact:
            if bool((largest.amax(1) < 0).any()):
                largest = scores.amax(2).float()  # negative ones were arbitrary
            groups = largest.argmax(1)
            numbers = torch.arange(len(low), device=low.device)
            return GROUP_SIZE * groups + scores[numbers, groups].float().argmax(1)
        slack = self._bound_errors(outputs, low.float())
        # What the largest score is at least, and groups whose scores may reach it.
        least = (largest - slack).sub_(largest.abs(), alpha=ROUNDING).amax(1, keepdim=True)
        most_there = largest.clamp(min=0).mul_(1 + ROUNDING).add_(slack)
        rows, groups = (most_there >= least).nonzero().unbind(1)
        if len(rows) > most:
            return self._argmax_plainly(outputs)
        least = least[rows] - slack[rows, groups, None]
        there = scores[rows, groups].float()
        which, places = (there.add_(there.abs(), alpha=ROUNDING) >= least).nonzero().unbind(1)
        if len(which) > most:
            return self._argmax_plainly(outputs)
        return self._decide(outputs, rows[which], GROUP_SIZE * groups[which] + places)

    def _append_ones(self, low: Float[Tensor, "n h"]) -> Float[Tensor, "n k"]:
        """Return rows of two ones, which the columns of the bias multiply, and the outputs."""
        joined = low.new_zeros(len(low), self.rounded.shape[1])
        joined[:, :2], joined[:, 2 : 2 + low.shape[1]] = 1, low
        return joined

    def _bound_errors(
        self, outputs: Float[Tensor, "n h"], low: Float[Tensor, "n h"]
    ) -> Float[Tensor, "n g"]:
        """Return how far the sums of a group may be from its scores, before they are rounded."""
        lost = torch.stack([(outputs - low).norm(dim=1), low.norm(dim=1)], 1)
        return torch.addmm(self.bias_lost, lost, self.norms)

    def _decide(
        self, outputs: Float[Tensor, "n h"], rows: Int[Tensor, "k"], tokens: Int[Tensor, "k"]
    ) -> Int[Tensor, "n"]:
        """Return the best candidate of each row; candidates are sorted by row, then by token."""
        weights, bias = self.weight[tokens].double(), self.bias[tokens].double()
        scores = (weights * outputs[rows].double()).sum(1) + bias
        best = scores.new_full((len(outputs),), -torch.inf)
        best = best.scatter_reduce(0, rows, scores, "amax")
        none = len(rows)
        numbers = torch.arange(none, device=rows.device).where(scores == best[rows], none)
        first = rows.new_full((len(outputs),), none).scatter_reduce(0, rows, numbers, "amin")
        if bool((first == none).any()):  # not a number
            return self._argmax_plainly(outputs)
        return tokens[first]

    def _argmax_plainly(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        scores = self.buffers.get("scores", len(outputs), len(self.bias))
        return torch.addmm(self.bias, outputs, self.weight.T, out=scores).argmax(1)


@contextmanager
def _full_precision_sums() -> Iterator[None]:
    """Sum in single precision, as the bounds assume; on GPUs, torch may sum in less otherwise."""
    flags = torch.backends.cuda.matmul
    allowed = flags.allow_bf16_reduced_precision_reduction
    flags.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        flags.allow_bf16_reduced_precision_reduction = allowed


def _find_group_maxima(scores: Shaped[Tensor, "n g k"]) -> Float[Tensor, "n g"]:
    """Return the largest score of each group with one of at least 0, else any of its scores.

    The bits of numbers that are not negative, read as integers, are ordered as the numbers are,
    and integers are compared several times as fast. Those of negative numbers are negative
    integers, but in the reverse order.
    """
    return scores.view(torch.int16).amax(2).view(torch.bfloat16).float()


MIN_SHORTLIST_TOKENS = 2048
"""The minimum size of a vocabulary for a shortlist, which pays from about half of it on."""
_MAX_SCORES = {"cpu": 2**22, "cuda": 2**28}
"""The maximum number of scores that are held at a time."""
CHUNK_TOKENS, CHUNK_ROWS = 1024, 512
"""On a CPU, the numbers of tokens and rows whose scores are looked at while they are in its caches,
if the scores of all tokens are computed."""


class OutputKernel:
    """The output layer of rows that only write.

    Args:
        layer: from attentional outputs to scores.
        precision: the dtype of its product.
        buffers: memory to work in.
    """

    def __init__(self, layer: nn.Linear, precision: torch.dtype, buffers: Buffers) -> None:
        self.buffers, self.bias = buffers, layer.bias
        self.product = Product(layer.weight.T, precision, buffers)
        self.shortlist: Shortlist | None = None
        large = len(self.bias) >= MIN_SHORTLIST_TOKENS and has_bfloat16(self.bias.device)
        if large and (precision == torch.bfloat16 or self.bias.dtype == torch.float32):
            exact = precision != torch.bfloat16
            self.shortlist = Shortlist(layer.weight, layer.bias, buffers, exact=exact)

    def argmax(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        """Return the token with the largest score of each row, the first in case of ties."""
        if self.shortlist is not None:
            return self.shortlist.argmax(outputs)
        if outputs.device.type == "cpu" and self.product.exact and len(self.bias) > CHUNK_TOKENS:
            return torch.cat([self._argmax_chunks(block) for block in outputs.split(CHUNK_ROWS)])
        found = [scores.max(1).indices for _, scores in self.project_blocks(outputs)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _argmax_chunks(self, outputs: Float[Tensor, "n h"]) -> Int[Tensor, "n"]:
        """Return the token with the largest score of each row, from some tokens at a time."""
        largest, tokens = [], []
        for start in range(0, len(self.bias), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            bias, weight = self.bias[chunk], self.product.weight[:, chunk]
            scores = self.buffers.get("scores", len(outputs), len(bias))
            found = torch.addmm(bias, outputs, weight, out=scores).max(1)
            largest.append(found.values)
            tokens.append(found.indices + start)
        chunks = torch.stack(largest).max(0).indices  # the first in case of ties
        return torch.stack(tokens).gather(0, chunks[None])[0]

    def project_blocks(
        self, outputs: Float[Tensor, "n h"]
    ) -> Iterator[tuple[slice, Float[Tensor, "k a"]]]:
        """Yield rows and their scores block by block; the next block overwrites the scores."""
        actions = len(self.bias)
        size = max(64, _MAX_SCORES.get(outputs.device.type, _MAX_SCORES["cpu"]) // actions)
        for start in range(0, len(outputs), size):
            rows = slice(start, start + size)
            some = outputs[rows]
            scores = self.buffers.get("scores", len(some), actions)
            yield rows, self.product.write(scores, some).add_(self.bias)
