"""Metrics as lines of text."""

from __future__ import annotations

from collections.abc import Mapping

from freerun.evaluation import Backspaces
from freerun.report.labels import label, scale, unit


def figures(metrics: Mapping[str, float]) -> str:
    """One line for each metric."""
    width = max(map(len, map(label, metrics)))
    return "\n".join(
        f"  {label(name):{width}}  {value * scale(name):6.2f} {unit(name)}".rstrip()
        for name, value in metrics.items()
    )


def counts(found: Backspaces) -> list[str]:
    """How often the backspace was used, in lines of text."""
    lines = [f"backspaces: {found.backspaces:,} of {found.actions:,} actions"]
    if found.withdrawals:
        right = "" if found.right is None else f", {found.right:,} of them right"
        lines.append(
            f"withdrawn tokens: {found.withdrawals:,}, of which {found.rewritten:,} became another"
            f"{right}"
        )
    if found.planted is not None:
        lines.append(f"planted errors: {found.planted:,}, of which {found.withdrawn:,} withdrawn")
    return lines
