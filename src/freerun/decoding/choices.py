"""How a policy picks its next token from scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from freerun.policy import Policy
from freerun.randomness import Coordinate, uniform


@contextmanager
def evaluation_mode(policy: Policy | nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; after it, every module is in the mode it was in."""
    modules = list(policy.modules()) if isinstance(policy, nn.Module) else []
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


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


def precise(scores: Float[Tensor, "n a"]) -> Float[Tensor, "n a"]:
    """Scores in single precision at least: in fewer digits, probabilities cannot be summed."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


Choose = Callable[
    [Float[Tensor, "n a"], Int[Tensor, "n"], int],
    tuple[Int[Tensor, "n"], Float[Tensor, "n"]],
]
"""From scores, the rows that they are of, and the cell, to actions and their log-probabilities."""


def greedy_choice(scores: Float[Tensor, "n a"]) -> Int[Tensor, "n"]:
    """The token with the largest score; the first of those where several tie."""
    return scores.argmax(-1)


def truncated_log_probs(
    scores: Float[Tensor, "n a"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Float[Tensor, "n a"]:
    """The log-probabilities that truncated sampling draws from; -inf where it never draws.

    Args:
        scores: unnormalised scores.
        temperature: divides the scores; > 0.
        top_k: keep the k largest scores; None keeps all.
        top_p: of those, keep the smallest set of largest tokens whose probability reaches `top_p`
            (Holtzman et al. 2020, arXiv 1904.09751); in (0, 1], and 1 keeps all.

    Raises:
        ValueError: where a setting is out of range.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be above 0 (greedy decodes at 0)")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must lie in (0, 1]")
    scores = scores / temperature
    if top_k is not None and top_k < scores.shape[-1]:
        kept, tokens = scores.topk(top_k, -1)
        scores = torch.full_like(scores, -torch.inf).scatter(-1, tokens, kept)
    if top_p < 1:
        ordered, tokens = scores.sort(stable=True, dim=-1, descending=True)
        # A token stays while the larger ones before it have not reached top_p.
        before = F.pad(ordered.softmax(-1).cumsum(-1)[..., :-1], (1, 0))
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
        scores = torch.full_like(scores, -torch.inf).scatter(-1, tokens, ordered)
    return scores.log_softmax(-1)


def sampled_choice(log_probs: Float[Tensor, "n a"], *coordinates: Coordinate) -> Int[Tensor, "n"]:
    """A token of each row's distribution, by one uniform number for each (inverse CDF).

    `coordinates` name the numbers (see `freerun.randomness`); one of them has a value for each row.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    # Below 1 by at least 2^-53, the number leaves the threshold below the sum, however it rounds.
    threshold = uniform(*coordinates, dtype=torch.float64) * cumulative[:, -1]
    return (cumulative <= threshold[:, None]).sum(-1)


def greedily(
    scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """The most likely token of each row, and its log-probability."""
    tokens = greedy_choice(scores)
    return tokens, scores.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]


def sampling(
    ids: Int[Tensor, "n"],
    seed: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Choose:
    """Draws tokens; log-probabilities are those of the truncated distribution.

    Args:
        ids: names each row: equal ids of one seed draw the same numbers.
        seed: names the draw.
        temperature: as in `truncated_log_probs`, likewise `top_k` and `top_p`.
        top_k: see there.
        top_p: see there.
    """

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        log_probs = truncated_log_probs(scores, temperature=temperature, top_k=top_k, top_p=top_p)
        tokens = sampled_choice(log_probs, seed, "sample", ids[rows], cell)
        return tokens, log_probs.gather(-1, tokens[:, None])[:, 0]

    return choose
