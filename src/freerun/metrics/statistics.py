"""Metrics as functions of sums over examples, so that examples can be resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from jaxtyping import Float64

Sums = Float64[np.ndarray, "d k"]
Values = Float64[np.ndarray, "d"]


@dataclass(frozen=True)
class Statistics:
    """Numbers of every example, whose sums over the examples determine the value of a metric.

    A metric whose function returns these, instead of a number, has confidence intervals over test
    examples in comparisons.

    Args:
        rows: k numbers for each of n examples.
        compute: a function from the sums of d sets of examples, an array of shape (d, k), to the
            d values of the metric.
    """

    rows: Float64[np.ndarray, "n k"]
    compute: Callable[[Sums], Values]

    @classmethod
    def build(
        cls, rows: Sequence[Sequence[float | int]], width: int, compute: Callable[[Sums], Values]
    ) -> Statistics:
        """Build them from lists of `width` numbers, one for each example."""
        return cls(np.array(rows, dtype=np.float64).reshape(len(rows), width), compute)

    @property
    def value(self) -> float:
        """The value for all examples."""
        sums = np.array([[fsum(column) for column in self.rows.T]])
        return float(self.compute(sums)[0])


def divide_sums(sums: Sums) -> Values:
    """Divide the first sum by the second, or by 1 if that is less."""
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def choose_best(found: Sequence[Statistics], *, greater_is_better: bool) -> Statistics:
    """Return the best numbers of every example, by the value of the metric of it alone.

    Args:
        found: statistics of the same examples, such as with several references.
        greater_is_better: whether higher values are better; in case of ties the first is taken. A
            value that is not a number is worse than all others.
    """
    values = np.stack([each.compute(each.rows) for each in found])
    gains = values if greater_is_better else -values
    best = np.where(np.isnan(gains), -np.inf, gains).argmax(0)
    rows = np.stack([each.rows for each in found])[best, np.arange(values.shape[1])]
    return Statistics(rows, found[0].compute)
