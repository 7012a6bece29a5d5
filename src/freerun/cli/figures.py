"""Metrics as lines of text."""

from __future__ import annotations

from collections.abc import Mapping

from freerun.report.labels import label, scale, unit


def figures(metrics: Mapping[str, float]) -> str:
    """One line for each metric."""
    width = max(map(len, map(label, metrics)))
    return "\n".join(
        f"  {label(name):{width}}  {value * scale(name):6.2f} {unit(name)}".rstrip()
        for name, value in metrics.items()
    )
