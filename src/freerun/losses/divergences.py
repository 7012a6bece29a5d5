"""Divergences between occupancies, each defined by a function φ of the implied rewards.

Cundy, Ermon 2024, *SequenceMatch*, arXiv 2306.05426; Garg et al. 2021, *IQ-Learn*, arXiv
2106.12142. With data p and model q, the divergence is sup_x E_p[φ(x)] - E_q[x]. Every φ is concave,
and is shifted so that φ(0) = 0 and φ'(0) = 1: for small rewards they all agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Divergence = Literal[
    "chi2_mixture", "chi2", "kl_model_data", "kl_data_model", "js", "hellinger", "tv"
]
"""The names of the divergences."""

MAX_SLOPE = 100.0
"""The largest slope of a φ; where the formula is steeper or undefined, φ continues linearly.

At the optimum φ' is q/p, so this bounds how many times too frequent an action can be rated.
"""

TV_BOUND = 0.5
"""The φ of total variation is the identity between minus and plus this value."""

NEAR = 0.05
"""Below this |x|, φ(x)/x is computed as an integral: the gradient of the quotient loses digits."""

_INNER, _OUTER = (math.sqrt(5 + sign * 2 * math.sqrt(10 / 7)) / 3 for sign in (-1, 1))
_NODES = [(1 + node) / 2 for node in (0.0, _INNER, -_INNER, _OUTER, -_OUTER)]
_HEAVY, _LIGHT = ((322 + sign * 13 * math.sqrt(70)) / 1800 for sign in (1, -1))
_WEIGHTS = [64 / 225, _HEAVY, _HEAVY, _LIGHT, _LIGHT]


@dataclass(frozen=True)
class _Curve:
    """A φ whose slope grows without bound to the left.

    Args:
        value: φ.
        slope: φ'.
        edge: where the slope is `MAX_SLOPE`.
        at_edge: φ there.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    edge: float
    at_edge: float


_CURVES = {
    "kl_model_data": _Curve(
        lambda x: -torch.expm1(-x),
        lambda x: torch.exp(-x),
        edge=-math.log(MAX_SLOPE),
        at_edge=1 - MAX_SLOPE,
    ),
    "kl_data_model": _Curve(
        torch.log1p,
        lambda x: 1 / (1 + x),
        edge=1 / MAX_SLOPE - 1,
        at_edge=-math.log(MAX_SLOPE),
    ),
    "js": _Curve(
        lambda x: torch.log1p(-torch.expm1(-x)),
        lambda x: 1 / (2 * torch.exp(x) - 1),
        edge=math.log((1 + 1 / MAX_SLOPE) / 2),
        at_edge=math.log(2 / (MAX_SLOPE + 1)),
    ),
    "hellinger": _Curve(
        lambda x: x / (1 + x),
        lambda x: (1 + x) ** -2,
        edge=MAX_SLOPE**-0.5 - 1,
        at_edge=1 - MAX_SLOPE**0.5,
    ),
}


def psi(x: Float[Tensor, "*n"], divergence: Divergence) -> Float[Tensor, "*n"]:
    """Compute ψ(x) = φ(x)/x, which is 1 at 0 and smooth: (1/α)·φ(α·r) = r·ψ(α·r) for α ≥ 0.

    | divergence | φ(x) | with data p and model q |
    |---|---|---|
    | chi2_mixture | x | with the penalty of `sequence_match_loss`, 2·χ²(p ‖ ½(p+q)) |
    | chi2 | x - x²/4 | Σ (p-q)²/p |
    | kl_model_data | 1 - exp(-x) | Σ q·log(q/p) |
    | kl_data_model | log(1+x), x > -1 | Σ p·log(p/q) |
    | js | log(2 - exp(-x)), x > -log 2 | twice the Jensen-Shannon divergence |
    | hellinger | x/(1+x), x > -1 | Σ (√p - √q)² |
    | tv | x from -½ to ½, then ½ | half the sum of all differences of p and q |

    Left of the point where its slope is 100, φ is continued by its tangent at that point. The φ of
    tv has a corner at -½, and continues from there with slope 100.

    Args:
        x: rewards times α.
        divergence: the name of the divergence.

    Raises:
        ValueError: if the divergence is unknown.
    """
    check_divergence(divergence)
    if divergence == "chi2_mixture":
        return torch.ones_like(x)
    if divergence == "chi2":
        return 1 - x / 4
    if divergence == "tv":
        return _psi_of_tv(x)
    curve = _CURVES[divergence]
    near, line = x.abs() < NEAR, x < curve.edge
    # ψ(x) = ∫ φ'(s·x) ds over [0, 1], by five points of Gauss and Legendre. Values that are not
    # selected must be finite too; otherwise gradients would be NaN.
    small = x.masked_fill(~near, 0)
    integral = sum(w * curve.slope(s * small) for s, w in zip(_NODES, _WEIGHTS, strict=True))
    regular = x.masked_fill(near | line, 1)
    quotient = curve.value(regular) / regular
    steep = x.masked_fill(~line, -1)
    tangent = MAX_SLOPE + (curve.at_edge - MAX_SLOPE * curve.edge) / steep
    return torch.where(near, integral, torch.where(line, tangent, quotient))


def _psi_of_tv(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    far = x.abs() > TV_BOUND
    regular = x.masked_fill(~far, 1)
    below = MAX_SLOPE + (MAX_SLOPE - 1) * TV_BOUND / regular
    return torch.where(far, torch.where(x > 0, TV_BOUND / regular, below), 1)


def outside_domain(x: Float[Tensor, "*n"], divergence: Divergence) -> Bool[Tensor, "*n"]:
    """Return where φ is continued linearly: outside its domain, or where its slope exceeds 100.

    Args:
        x: rewards times α.
        divergence: the name of the divergence.

    Raises:
        ValueError: if the divergence is unknown.
    """
    check_divergence(divergence)
    if divergence == "tv":
        return x.abs() > TV_BOUND
    if divergence in _CURVES:
        return x < _CURVES[divergence].edge
    return torch.zeros_like(x, dtype=torch.bool)


def check_divergence(divergence: str) -> None:
    """Check that a divergence exists.

    Raises:
        ValueError: if the divergence is unknown.
    """
    names = get_args(Divergence)
    if divergence not in names:
        raise ValueError(f"divergence is {divergence!r}; it must be one of {', '.join(names)}")
