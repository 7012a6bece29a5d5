"""Divergences between occupancies, by the function φ that each puts on implied rewards.

Cundy, Ermon 2024, *SequenceMatch*, arXiv 2306.05426, section 3; Garg et al. 2021, *IQ-Learn*, arXiv
2106.12142. The divergence of data p and model q is sup_x E_p[φ(x)] - E_q[x]. Every φ is concave,
and is shifted so that φ(0) = 0 and φ'(0) = 1, with which the limit of small rewards is the same for
all. Where φ ends or grows too steep, it goes on along a line.
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

STEEPEST = 100.0
"""The slope of the line along which a φ goes on: how much more than data a state may be visited."""
_NEAR = 0.05
"""Up to here, φ(x)/x is found without a quotient, which loses digits."""
# Nodes and weights of Gauss and Legendre on [0, 1].
_NODES = tuple(0.5 + sign * x for x, sign in (
    (0.0, 1), (math.sqrt(5 - 2 * math.sqrt(10 / 7)) / 6, 1),
    (math.sqrt(5 - 2 * math.sqrt(10 / 7)) / 6, -1),
    (math.sqrt(5 + 2 * math.sqrt(10 / 7)) / 6, 1), (math.sqrt(5 + 2 * math.sqrt(10 / 7)) / 6, -1),
))  # fmt: skip
_WEIGHTS = (64 / 225, *2 * [(322 + 13 * math.sqrt(70)) / 1800],
            *2 * [(322 - 13 * math.sqrt(70)) / 1800])  # fmt: skip


@dataclass(frozen=True)
class _Curve:
    """A φ that is not a polynomial.

    Args:
        value: φ.
        slope: φ'.
        edge: where the slope reaches `STEEPEST`.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    edge: float


_CURVES = {
    "kl_model_data": _Curve(
        lambda x: -torch.expm1(-x), lambda x: torch.exp(-x), -math.log(STEEPEST)
    ),
    "kl_data_model": _Curve(torch.log1p, lambda x: 1 / (1 + x), 1 / STEEPEST - 1),
    "js": _Curve(
        lambda x: torch.log1p(-torch.expm1(-x)),
        # Divided by the exponential, which would overflow on the other side.
        lambda x: torch.exp(-x) / (2 - torch.exp(-x)),
        math.log((1 + 1 / STEEPEST) / 2),
    ),
    "hellinger": _Curve(lambda x: x / (1 + x), lambda x: (1 + x) ** -2, STEEPEST**-0.5 - 1),
}


def psi(x: Float[Tensor, "*n"], divergence: Divergence) -> Float[Tensor, "*n"]:
    """ψ(x) = φ(x)/x, which is 1 at 0 and smooth there: (1/α)·φ(α·r) = r·ψ(α·r) for any α ≥ 0.

    | divergence | φ(x) | of data p and model q |
    |---|---|---|
    | chi2_mixture | x | with its penalty, 2·χ²(p ‖ (p+q)/2): see `sequence_match_loss` |
    | chi2 | x - x²/4 | Σ (p-q)²/p |
    | kl_model_data | 1 - exp(-x) | Σ q·log(q/p) |
    | kl_data_model | log(1+x), x > -1 | Σ p·log(p/q) |
    | js | log(2 - exp(-x)), x > -log 2 | twice the Jensen-Shannon divergence |
    | hellinger | x/(1+x), x > -1 | Σ (√p - √q)² |
    | tv | x, -½ ≤ x ≤ ½; ½ beyond | ½·Σ abs(p-q) |

    Below the point where its slope reaches 100, φ is continued by its tangent; that of tv, whose
    slope jumps there, by a line of that slope from -½ on.

    Args:
        x: rewards times α.
        divergence: its name.

    Raises:
        ValueError: where there is no such divergence.
    """
    check_divergence(divergence)
    if divergence == "chi2_mixture":
        return torch.ones_like(x)
    if divergence == "chi2":
        return 1 - x / 4
    if divergence == "tv":
        far = torch.where(x.abs() > 0.5, x, 1)
        below = STEEPEST + (STEEPEST - 1) / 2 / far
        return torch.where(
            far == 1, torch.where(x == 1, 0.5, 1), torch.where(x > 0, 0.5 / far, below)
        )
    curve = _CURVES[divergence]
    edge = torch.tensor(curve.edge, dtype=x.dtype, device=x.device)
    near, line = x.abs() < _NEAR, x < edge
    # What is not chosen must be finite, or its gradient would be no number.
    small = x.masked_fill(~near, 0)
    integral = sum(
        weight * curve.slope(small * node) for node, weight in zip(_NODES, _WEIGHTS, strict=True)
    )
    inside = torch.where(near | line, 1, x)
    quotient = curve.value(inside) / inside
    steep = torch.where(line, x, -1)
    tangent = STEEPEST + (curve.value(edge) - STEEPEST * edge) / steep
    return torch.where(near, integral, torch.where(line, tangent, quotient))


def outside(x: Float[Tensor, "*n"], divergence: Divergence) -> Bool[Tensor, "*n"]:
    """Where φ is continued: it is not defined at x, or steeper than 100.

    Args:
        x: rewards times α.
        divergence: its name.

    Raises:
        ValueError: where there is no such divergence.
    """
    check_divergence(divergence)
    if divergence == "tv":
        return x.abs() > 0.5
    if divergence in _CURVES:
        return x < _CURVES[divergence].edge
    return torch.zeros_like(x, dtype=torch.bool)


def check_divergence(divergence: str) -> None:
    """See that there is such a divergence.

    Raises:
        ValueError: where there is none.
    """
    names = get_args(Divergence)
    if divergence not in names:
        raise ValueError(f"divergence is {divergence!r}; it must be one of {', '.join(names)}")
