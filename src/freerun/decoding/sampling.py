"""Samplers: functions that choose the next tokens from scores, greedily or at random."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from freerun.randomness import Coordinate, uniform

Sampler = Callable[
    [Float[Tensor, "n a"], Int[Tensor, "n"], int],
    tuple[Int[Tensor, "n"], Float[Tensor, "n"]],
]
"""A function from scores, the rows they belong to, and the cell, to actions and their
log-probabilities."""

# On a CPU, a block is what fits into its caches: elementwise operations are several times faster
# there. Elsewhere the bound only limits memory, as a few large kernels are fastest.
_BLOCK_SCORES_CPU = 2**17
_BLOCK_SCORES = 2**26


def apply_in_blocks(
    function: Callable[..., Tensor], scores: Float[Tensor, "n a"], *more: Tensor
) -> Tensor:
    """Return `function(scores, *more)`, computed for blocks of rows, which must be independent."""
    block = _BLOCK_SCORES_CPU if scores.device.type == "cpu" else _BLOCK_SCORES
    rows = max(1, block // scores.shape[-1])
    if len(scores) <= rows:
        return function(scores, *more)
    blocks = zip(*(each.split(rows) for each in (scores, *more)), strict=True)
    return torch.cat([function(*block) for block in blocks])


def promote_scores(scores: Float[Tensor, "n a"]) -> Float[Tensor, "n a"]:
    """Return the scores in single precision or higher; a bfloat16 softmax does not sum to 1."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def argmax_tokens(scores: Float[Tensor, "n a"]) -> Int[Tensor, "n"]:
    """Return the token with the largest score; the first in case of ties."""
    return scores.argmax(-1)


def check_truncation(*, temperature: float, top_k: int | None, top_p: float) -> None:
    """Check the settings of `truncated_log_probs`.

    Raises:
        ValueError: if one is out of range.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be above 0 (greedy decodes at 0)")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must lie in (0, 1]")


def truncated_log_probs(
    scores: Float[Tensor, "n a"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Float[Tensor, "n a"]:
    """Return the log-probabilities that truncated sampling draws from; -inf if never drawn.

    Args:
        scores: unnormalized scores.
        temperature: divides the scores; > 0.
        top_k: keep the k largest scores; None keeps all.
        top_p: of those, keep the smallest set of largest tokens whose probability reaches `top_p`
            (Holtzman et al. 2020, arXiv 1904.09751); in (0, 1], and 1 keeps all.

    Raises:
        ValueError: if a setting is out of range.
    """
    check_truncation(temperature=temperature, top_k=top_k, top_p=top_p)
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


def sample_tokens(log_probs: Float[Tensor, "n a"], *coordinates: Coordinate) -> Int[Tensor, "n"]:
    """Draw a token from each row's distribution, by inverse transform sampling.

    Args:
        log_probs: the distributions.
        coordinates: name the uniform numbers (see `freerun.randomness`); one of them has a value
            per row.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    # The number is at most 1 - 2^-53, so the threshold is below the total however it rounds, and
    # the index below the number of tokens.
    threshold = uniform(*coordinates, dtype=torch.float64) * cumulative[:, -1]
    return (cumulative <= threshold[:, None]).sum(-1)


def choose_greedily(
    scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Choose the most likely token of each row; a `Sampler`."""
    tokens = argmax_tokens(scores)
    return tokens, scores.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]


def make_sampler(
    ids: Int[Tensor, "n"],
    seed: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Sampler:
    """Return a sampler; its log-probabilities are those of the truncated distribution.

    Args:
        ids: the id of each row: with the same seed and id, a row draws the same numbers in any
            batch.
        seed: the seed of the draws.
        temperature: see `truncated_log_probs`.
        top_k: see `truncated_log_probs`.
        top_p: see `truncated_log_probs`.
    """

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        log_probs = truncated_log_probs(scores, temperature=temperature, top_k=top_k, top_p=top_p)
        tokens = sample_tokens(log_probs, seed, "sample", ids[rows], cell)
        return tokens, log_probs.gather(-1, tokens[:, None])[:, 0]

    return choose
