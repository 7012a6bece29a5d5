"""Metrics of outputs, by name."""

from freerun.metrics.base import (
    METRICS,
    Form,
    Metric,
    MetricSpec,
    check_distinct,
    find_metric,
    find_metrics,
    metric,
)
from freerun.metrics.corpora import diversity, entropy, ms_jaccard, repetition
from freerun.metrics.corrections import edit_f
from freerun.metrics.mauve import mauve
from freerun.metrics.recognition import cer, wer
from freerun.metrics.scoring import (
    check_metrics,
    count_errors,
    find_position_errors,
    get_headline,
    list_signatures,
    measure,
    score,
    score_majority_guess,
    try_metrics,
)
from freerun.metrics.sequences import (
    accuracy,
    character_error,
    chunk_f1,
    exact_match,
    hamming_error,
    sequence_error,
    token_error,
)
from freerun.metrics.statistics import Statistics
from freerun.metrics.translations import bleu, chrf, rouge, ter

__all__ = [
    "METRICS",
    "Form",
    "Metric",
    "MetricSpec",
    "Statistics",
    "accuracy",
    "bleu",
    "cer",
    "character_error",
    "check_distinct",
    "check_metrics",
    "chrf",
    "chunk_f1",
    "count_errors",
    "diversity",
    "edit_f",
    "entropy",
    "exact_match",
    "find_metric",
    "find_metrics",
    "find_position_errors",
    "get_headline",
    "hamming_error",
    "list_signatures",
    "mauve",
    "measure",
    "metric",
    "ms_jaccard",
    "repetition",
    "rouge",
    "score",
    "score_majority_guess",
    "sequence_error",
    "ter",
    "token_error",
    "try_metrics",
    "wer",
]
