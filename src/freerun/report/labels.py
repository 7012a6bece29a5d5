"""Labels, units and formats of figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from freerun.evaluation import Backspaces, Summary
from freerun.metrics import METRICS

ResultsFile = Mapping[str, Any]
"""The contents of the results.json of a comparison; docs/results.md describes its fields."""


def task_name(results: ResultsFile) -> str:
    """Return the name of a task; if it is named by its address, that of the class."""
    return str(results["task"]["name"]).rpartition(":")[2]


_PROPER = {
    "bleu": "BLEU",
    "bleu_1": "BLEU-1",
    "chunk_f1": "chunk F1",
    "chrf": "chrF",
    "gleu": "GLEU",
    "f1": "F1",
    "hamming_error": "Hamming error",
    "mauve": "MAUVE",
    "ms_jaccard": "MS-Jaccard",
}


def label(metric: str) -> str:
    """Return the name of a metric in words: `character_error` is "character error"."""
    if metric.startswith("beam_"):
        return f"beam {label(metric.removeprefix('beam_'))}"
    return _PROPER.get(metric, metric.replace("_", " "))


def unit(metric: str) -> str:
    """Return the unit of a metric: percent, or empty if it is not a fraction."""
    return "%" if _is_fraction(metric) else ""


def scale(metric: str) -> float:
    """Return the factor from a metric to its unit."""
    return 100.0 if _is_fraction(metric) else 1.0


def arrow(metric: str) -> str:
    """Return the arrow of the better direction; none if there is no better one, as for entropy."""
    known = METRICS.get(_plain(metric))
    greater = not metric.endswith("_error") if known is None else known.greater_is_better
    return "" if greater is None else "↑" if greater else "↓"


def _is_fraction(metric: str) -> bool:
    """Return whether a metric is a fraction, as all metrics that are not of outputs are."""
    known = METRICS.get(_plain(metric))
    return known is None or known.percent


def _plain(metric: str) -> str:
    """Return the name of a metric without the prefix of beam search."""
    return metric.removeprefix("beam_")


def format_mean(figure: Summary, factor: float) -> str:
    """Format a mean with two decimals, ± the standard deviation if there are several values."""
    spread = "" if figure["std"] is None else f" ± {figure['std'] * factor:.2f}"
    return f"{figure['mean'] * factor:.2f}{spread}"


def metric_lines(metrics: Mapping[str, float]) -> str:
    """Return one line per metric, with its label and unit."""
    width = max(map(len, map(label, metrics)))
    return "\n".join(
        f"  {label(name):{width}}  {value * scale(name):6.2f} {unit(name)}".rstrip()
        for name, value in metrics.items()
    )


def backspace_lines(found: Backspaces) -> list[str]:
    """Return how often the backspace was used, in lines of text."""
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
