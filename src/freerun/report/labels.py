"""How figures are named and written for people."""

from __future__ import annotations

from freerun.report.numbers import Summary

_PROPER = {
    "bleu": "BLEU",
    "bleu_1": "BLEU-1",
    "chunk_f1": "chunk F1",
    "chrf": "chrF",
    "gleu": "GLEU",
    "f1": "F1",
    "hamming_error": "Hamming error",
}
_OF_A_HUNDRED = {"bleu", "chrf", "gleu"}


def label(metric: str) -> str:
    """The name of a metric in words: `character_error` is "character error"."""
    if metric.startswith("beam_"):
        return f"beam {label(metric.removeprefix('beam_'))}"
    return _PROPER.get(metric, metric.replace("_", " "))


def unit(metric: str) -> str:
    """The unit that a metric is shown in: per cent, or nothing where it is out of 100 anyway."""
    return "" if _of_a_hundred(metric) else "%"


def scale(metric: str) -> float:
    """What a metric is multiplied by to be shown in its unit."""
    return 1.0 if _of_a_hundred(metric) else 100.0


def _of_a_hundred(metric: str) -> bool:
    """Whether a metric is out of a hundred anyway, of greedy outputs or of beam search."""
    return metric.removeprefix("beam_") in _OF_A_HUNDRED


def arrow(metric: str) -> str:
    """The direction of better: ↓ for errors, ↑ for all else."""
    return "↓" if metric.endswith("_error") else "↑"


def shown(figure: Summary, factor: float, sign: str = "") -> str:
    """A mean ± the standard deviation, with two decimals; of a single value, that value."""
    text = f"{figure['mean'] * factor:{sign}.2f}"
    return text if len(figure["values"]) == 1 else f"{text} ± {figure['std'] * factor:.2f}"
