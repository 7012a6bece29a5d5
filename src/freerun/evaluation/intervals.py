"""Figures over seeds: deviations, confidence intervals, and how many seeds would be needed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist, fmean, stdev, variance
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float64

from freerun.metrics import Statistics
from freerun.randomness import below

DRAWS = 2_000
"""The number of draws of the bootstrap over test examples."""
MAX_SEEDS = 1_000
"""A larger number is probably meant as a seed."""
_BLOCK = 4_000_000
"""The maximum number of drawn examples in memory at once."""
_TAIL = 0.975
_POWER = NormalDist().inv_cdf(0.8)

Draws = Float64[np.ndarray, "d s"]
"""A figure of every seed (columns), for resampled test examples (rows)."""


class Summary(TypedDict):
    """A figure over seeds.

    Attributes:
        mean: the mean.
        std: the sample standard deviation, over n-1; None for one seed.
        values: the figure of every seed, in their order.
    """

    mean: float
    std: float | None
    values: list[float]


class Estimate(Summary):
    """A figure over seeds, with its 95 % confidence interval.

    Attributes:
        low: the lower end; None if it is unknown.
        high: the upper end.
    """

    low: float | None
    high: float | None


class Difference(Estimate):
    """A difference over seeds.

    Attributes:
        seeds_needed: see `count_seeds`.
    """

    seeds_needed: int | None


def summary(values: Sequence[float]) -> Summary:
    """Compute the mean and the sample standard deviation of `values`; one value has none."""
    std = stdev(values) if len(values) > 1 else None
    return Summary(mean=fmean(values), std=std, values=list(values))


def estimate(values: Sequence[float], draws: Draws | None) -> Estimate:
    """Compute the mean over seeds and its 95 % confidence interval.

    The variance over seeds and that over test examples are estimated separately. The interval over
    seeds is Student's, of half-width t·s/√S; that over examples, of the mean over seeds, is the
    percentile interval of the bootstrap. Their half-widths are added as squares, at either end
    (MOVER, Zou and Donner 2008, doi 10.1002/sim.3095), which keeps the level with few seeds, too
    (Banerjee 1960). A bootstrap that also resamples seeds does not: with two seeds, it
    underestimates their variance by half.

    Args:
        values: the figure of every seed.
        draws: the same for resampled test examples, the same ones for all seeds; None if the
            metric cannot be resampled. Then, the interval is over seeds alone; and of one seed, it
            is over examples alone.
    """
    found = summary(values)
    mean, count = found["mean"], len(values)
    if count < 2 and draws is None:
        return Estimate(**found, low=None, high=None)
    over_seeds = 0.0
    if count > 1:
        over_seeds = find_t(_TAIL, count - 1) * math.sqrt(variance(values) / count)
    low = high = mean
    if draws is not None:
        low, high = map(float, np.quantile(draws.mean(1), [1 - _TAIL, _TAIL]))
    return Estimate(
        **found,
        low=mean - math.hypot(over_seeds, min(low - mean, 0)),
        high=mean + math.hypot(over_seeds, max(high - mean, 0)),
    )


def estimate_difference(values: Sequence[float], draws: Draws | None) -> Difference:
    """Compute the mean difference over seeds, its interval, and the number of seeds needed."""
    found = estimate(values, draws)
    return Difference(**found, seeds_needed=None if is_clear(found) else count_seeds(values, draws))


def is_clear(found: Estimate) -> bool:
    """Return whether the interval excludes zero."""
    low, high = found["low"], found["high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def count_seeds(values: Sequence[float], draws: Draws | None) -> int | None:
    """Compute the number of seeds for which the interval of a difference would exclude zero.

    Returns:
        The number (see `find_needed_seeds`), which exceeds that of `values`; None if there is only
        one seed, or 1,000 would not be enough.
    """
    count = len(values)
    if count < 2:
        return None
    shared, own = (0.0, 0.0) if draws is None else split_variance(draws)
    return find_needed_seeds(fmean(values), variance(values), shared, own, at_least=count + 1)


def split_variance(draws: Draws) -> tuple[float, float]:
    """Split the variance over test examples of a single seed.

    Args:
        draws: the figure of at least two seeds for resampled examples.

    Returns:
        The part that all seeds share, their mean covariance, and the rest.
    """
    count, single = draws.shape[1], float(draws.var(0, ddof=1).mean())
    shared = (count * float(draws.mean(1).var(ddof=1)) - single) / (count - 1)
    shared = min(max(shared, 0.0), single)
    return shared, single - shared


def find_needed_seeds(
    mean: float, over_seeds: float, shared: float, own: float, *, at_least: int = 2
) -> int | None:
    """Find the smallest number of seeds for which a difference would be clear.

    The mean of S seeds has the standard error √(v/S + c), and its interval the half-width
    √(t²·v/S + z²·(c + e/S)), where t = t(0.975, S-1) and z = 1.96. If the absolute difference is at
    least the half-width plus 0.84 standard errors, the interval excludes zero with a probability of
    about 80 %.

    Args:
        mean: the difference.
        over_seeds: v, its variance over seeds, on the same test examples.
        shared: c, the variance over test examples that all seeds share.
        own: e, the rest of a seed's variance over test examples.
        at_least: the smallest number that is tried.

    Returns:
        The number; None if it is over 1,000.
    """
    normal = NormalDist().inv_cdf(_TAIL)

    def suffices(seeds: int) -> bool:
        width = math.hypot(
            find_t(_TAIL, seeds - 1) * math.sqrt(over_seeds / seeds),
            normal * math.sqrt(shared + own / seeds),
        )
        return abs(mean) > width + _POWER * math.sqrt(over_seeds / seeds + shared)

    # More seeds make every term smaller.
    tried = range(at_least, MAX_SEEDS + 1)
    index = bisect_left(tried, True, key=suffices)
    return tried[index] if index < len(tried) else None


@cache
def find_t(probability: float, degrees: int) -> float:
    """Compute a quantile of Student's t distribution, by bisection.

    Args:
        probability: the probability below the quantile, at least 0.5 and below 1.
        degrees: the number of degrees of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while _find_center(high, degrees) < 2 * probability - 1:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if _find_center(middle, degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return high


def _find_center(t: float, degrees: int) -> float:
    """Return the probability of Student's t distribution between -t and t.

    Abramowitz and Stegun 1964, equations 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = total = math.cos(angle) if odd else 1.0
    for i in range(2 + odd, degrees, 2):
        term *= math.cos(angle) ** 2 * (i - 1) / i
        total += term
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + (math.sin(angle) * total if degrees > 1 else 0.0))


def resample(
    statistics: Sequence[Statistics], draws: int = DRAWS
) -> list[Float64[np.ndarray, "d"]]:
    """Compute metrics of resampled examples, in every draw of the same ones for all.

    Args:
        statistics: the statistics of equally many examples.
        draws: the number of draws.

    Returns:
        The values of each of `statistics` in all draws.
    """
    if not statistics:
        return []
    rows = np.hstack([each.rows for each in statistics])
    count = len(rows)
    block = max(1, _BLOCK // count)
    sums = np.concatenate(
        [
            _draw_counts(range(start, min(start + block, draws)), count) @ rows
            for start in range(0, draws, block)
        ]
    )
    ends = np.cumsum([each.rows.shape[1] for each in statistics])[:-1]
    parts = np.split(sums, ends, axis=1)
    return [each.compute(part) for each, part in zip(statistics, parts, strict=True)]


def _draw_counts(draws: range, examples: int) -> Float64[np.ndarray, "d n"]:
    """Draw as many examples as there are, with replacement; return how often each was drawn."""
    rows = torch.arange(draws.start, draws.stop)[:, None]
    drawn = below(examples, "bootstrap", rows, torch.arange(examples))
    drawn += (rows - draws.start) * examples
    counts = torch.bincount(drawn.flatten(), minlength=len(draws) * examples)
    return counts.view(len(draws), examples).double().numpy()
