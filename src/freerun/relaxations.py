"""Relaxed choices: weights over tokens through which a gradient reaches the scores.

Goyal, Dyer, Berg-Kirkpatrick 2017, *Differentiable Scheduled Sampling for Credit Assignment*,
arXiv 1704.06970. The embedding that is fed is the mixture Σ_a w(a)·e(a) of these weights w.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from freerun.arguments import check_number


def soft_argmax(
    scores: Float[Tensor, "*rows a"], alpha: float, *, top_k: int | None = None
) -> Float[Tensor, "*rows a"]:
    """Compute softmax(α·s), which tends to the one-hot argmax as α → ∞ (equation 3).

    Args:
        scores: unnormalized scores s.
        alpha: the peakedness α > 0.
        top_k: spread the weights over the `top_k` best tokens of each row only. Ties are broken as
            by `torch.topk`.

    Raises:
        ValueError: if scores are not rows of floating-point numbers, α is not finite and above 0,
            or `top_k` is below 1.
    """
    _check_rows("scores", scores)
    check_number("alpha", alpha, 0, above=True)
    if top_k is not None:
        check_number("top_k", top_k, 1)
    scaled = scores * alpha
    if top_k is None or top_k >= scores.shape[-1]:
        return scaled.softmax(-1)
    best, tokens = scaled.topk(top_k, -1)
    return torch.zeros_like(scaled).scatter(-1, tokens, best.softmax(-1))


def soft_sample(
    scores: Float[Tensor, "*rows a"],
    noise: Float[Tensor, "*rows a"],
    alpha: float,
    *,
    top_k: int | None = None,
) -> Float[Tensor, "*rows a"]:
    """Compute softmax(α·(s + G)) with Gumbel noise G; tends to a one-hot sample (equation 4).

    α multiplies the noise too: it is the inverse temperature 1/τ of Gumbel-softmax.

    Args:
        scores: unnormalized scores s.
        noise: Gumbel noise G, fresh for every cell.
        alpha: the peakedness α > 0.
        top_k: spread the weights over the `top_k` best perturbed tokens of each row only.

    Raises:
        ValueError: if the shapes differ, α is not finite and above 0, or `top_k` is below 1.
    """
    if noise.shape != scores.shape:
        raise ValueError(
            f"noise has shape {tuple(noise.shape)}; it must have that of scores, "
            f"{tuple(scores.shape)}"
        )
    return soft_argmax(scores + noise, alpha, top_k=top_k)


def straight_through(weights: Float[Tensor, "*rows a"]) -> Float[Tensor, "*rows a"]:
    """Return the one-hot argmax of `weights`, with their gradient (Bengio et al. 2013).

    Of several tokens with the largest weight, the first is chosen.

    Args:
        weights: weights of tokens, such as those of `soft_argmax`.

    Raises:
        ValueError: if they are not rows of floating-point numbers.
    """
    _check_rows("weights", weights)
    hard = F.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights.dtype)
    # In this order the difference is exactly zero, and the value exactly one-hot.
    return hard + (weights - weights.detach())


def _check_rows(name: str, values: Tensor) -> None:
    """Check that the last dimension of a tensor holds numbers of tokens.

    Raises:
        ValueError: if it does not.
    """
    if values.dim() < 1 or values.shape[-1] < 1 or not values.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(values.shape)} and dtype {values.dtype}; it must be "
            "[..., a], floating-point numbers of at least one token"
        )
