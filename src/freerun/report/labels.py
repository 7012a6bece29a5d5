"""Labels, units and formats of figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypedDict

from freerun.evaluation import Backspaces


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
    """Compute the mean and the sample standard deviation of `values`."""
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return Summary(mean=statistics.fmean(values), std=std, values=list(values))


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
_NO_SHARES = {"bleu", "chrf", "gleu", "entropy"}
"""Metrics that are no fractions: out of 100, or in nats."""
_LOWER = {"repetition"}
_LIKE_PEOPLE = {"entropy"}
"""Metrics that should be as in human text, neither higher nor lower."""


def label(metric: str) -> str:
    """Return the name of a metric in words: `character_error` is "character error"."""
    if metric.startswith("beam_"):
        return f"beam {label(metric.removeprefix('beam_'))}"
    return _PROPER.get(metric, metric.replace("_", " "))


def unit(metric: str) -> str:
    """Return the unit of a metric: percent, or empty if it is not a fraction."""
    return "" if _plain(metric) in _NO_SHARES else "%"


def scale(metric: str) -> float:
    """Return the factor from a metric to its unit."""
    return 1.0 if _plain(metric) in _NO_SHARES else 100.0


def arrow(metric: str) -> str:
    """Return the better direction: ↓ for errors and repetition, none for entropy, ↑ otherwise."""
    if _plain(metric) in _LIKE_PEOPLE:
        return ""
    return "↓" if metric.endswith("_error") or _plain(metric) in _LOWER else "↑"


def _plain(metric: str) -> str:
    """Return the name of a metric without the prefix of beam search."""
    return metric.removeprefix("beam_")


def shown(figure: Summary, factor: float, sign: str = "") -> str:
    """Format a mean ± the standard deviation with two decimals; of a single value, that value."""
    text = f"{figure['mean'] * factor:{sign}.2f}"
    return text if len(figure["values"]) == 1 else f"{text} ± {figure['std'] * factor:.2f}"


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
