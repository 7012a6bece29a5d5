"""How figures are named and written for people."""

from __future__ import annotations

from freerun.report.numbers import Summary

_PROPER = {"bleu": "BLEU", "gleu": "GLEU", "f1": "F1", "hamming_error": "Hamming error"}
_OF_A_HUNDRED = {"bleu", "gleu"}


def label(metric: str) -> str:
    """The name of a metric in words: `character_error` is "character error"."""
    return _PROPER.get(metric, metric.replace("_", " "))


def unit(metric: str) -> str:
    """The unit that a metric is shown in: per cent, or nothing where it is out of 100 anyway."""
    return "" if metric in _OF_A_HUNDRED else "%"


def scale(metric: str) -> float:
    """What a metric is multiplied by to be shown in its unit."""
    return 1.0 if metric in _OF_A_HUNDRED else 100.0


def arrow(metric: str) -> str:
    """The direction of better: ↓ for errors, ↑ for all else."""
    return "↓" if metric.endswith("_error") else "↑"


def shown(figure: Summary, factor: float, sign: str = "") -> str:
    """A mean ± the standard deviation, with two decimals; of a single value, that value."""
    text = f"{figure['mean'] * factor:{sign}.2f}"
    return text if len(figure["values"]) == 1 else f"{text} ± {figure['std'] * factor:.2f}"
