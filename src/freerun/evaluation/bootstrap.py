"""Intervals from a bootstrap over sentences: these are drawn with replacement, many times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % confidence interval, from a bootstrap over sentences."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def check_draws(draws: int) -> None:
    """Check the number of draws.

    Raises:
        ValueError: if it is below 1.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; it must be at least 1")


def draw_weights(count: int, seed: int, draws: int) -> Iterator[Float64[np.ndarray, "n"]]:
    """Yield, for every draw, how often each of `count` sentences is drawn."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = generator.integers(count, size=count)
        yield np.bincount(drawn, minlength=count).astype(float)


def find_quantiles(values: Float64[np.ndarray, "d"]) -> Float64[np.ndarray, "2"]:
    """Return the ends of the 95 % interval of values, apart from those that are NaN."""
    known = values[~np.isnan(values)]
    return np.quantile(known, [0.025, 0.975]) if len(known) else np.full(2, np.nan)
