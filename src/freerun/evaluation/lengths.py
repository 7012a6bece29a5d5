"""Metrics of outputs by the length of their references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from freerun.metrics import Statistics

GROUPS = 6
"""The number of groups of lengths."""


def measure_by_length(
    statistics: Mapping[str, Statistics], lengths: Sequence[int], groups: int = GROUPS
) -> list[dict[str, Any]]:
    """Compute metrics of the examples of every group of lengths.

    Args:
        statistics: the statistics of every example, by metric.
        lengths: the number of tokens of each reference.
        groups: the maximum number of groups, of about equally many examples; those of one length
            are in one group.

    Returns:
        For every group from short to long, its shortest and longest length, the number of examples,
        and the metrics.
    """
    order = np.asarray(lengths)
    edges = np.unique(np.quantile(order, np.linspace(0, 1, groups + 1)[1:], method="higher"))
    found, below = [], -1
    for edge in edges.tolist():
        chosen = (order > below) & (order <= edge)
        here = order[chosen]
        found.append(
            {
                "shortest": int(here.min()),
                "longest": int(here.max()),
                "count": int(chosen.sum()),
                "metrics": {
                    name: Statistics(each.rows[chosen], each.compute).value
                    for name, each in statistics.items()
                },
            }
        )
        below = edge
    return found
