"""Means and standard deviations over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Summary(TypedDict):
    """A figure over seeds.

    Attributes:
        mean: the mean.
        std: the sample standard deviation, over n-1; 0 for one seed.
        values: the figure of every seed, in their order.
    """

    mean: float
    std: float
    values: list[float]


def summary(values: Sequence[float]) -> Summary:
    """The mean and the sample standard deviation of `values`, with them."""
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return Summary(mean=statistics.fmean(values), std=std, values=list(values))
