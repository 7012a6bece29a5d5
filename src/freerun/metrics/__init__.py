"""Metrics: numbers that say how good outputs are, by name."""

from freerun.metrics.base import METRICS, Form, Metric, metric, metric_of, metrics_of
from freerun.metrics.corpora import diversity, entropy, ms_jaccard, repetition
from freerun.metrics.mauve import mauve
from freerun.metrics.scoring import (
    check_metrics,
    headline_of,
    majority_guess,
    position_errors,
    score,
    signatures,
)
from freerun.metrics.sequences import (
    accuracy,
    character_error,
    chunk_f1,
    exact_match,
    hamming_error,
    token_error,
)
from freerun.metrics.translations import bleu, chrf

__all__ = [
    "METRICS",
    "Form",
    "Metric",
    "accuracy",
    "bleu",
    "character_error",
    "check_metrics",
    "chrf",
    "chunk_f1",
    "diversity",
    "entropy",
    "exact_match",
    "hamming_error",
    "headline_of",
    "majority_guess",
    "mauve",
    "metric",
    "metric_of",
    "metrics_of",
    "ms_jaccard",
    "position_errors",
    "repetition",
    "score",
    "signatures",
    "token_error",
]
