"""Free-running evaluation: decode without the reference, and score the outputs."""

from freerun.evaluation.backspaces import Backspaces
from freerun.evaluation.decoding import (
    GREEDY,
    Decoding,
    batches_by_length,
    check_decoding,
    decode,
    decode_with_errors,
    on_device,
)
from freerun.evaluation.evaluation import (
    DecodedExamples,
    Evaluation,
    decode_examples,
    decode_hypotheses,
    evaluate,
    find_writable,
    score_outputs,
    teacher_forced_loss,
    teacher_forced_total,
)
from freerun.evaluation.exposure_bias import ExposureBias, Interval, measure_exposure_bias

__all__ = [
    "GREEDY",
    "Backspaces",
    "DecodedExamples",
    "Decoding",
    "Evaluation",
    "ExposureBias",
    "Interval",
    "batches_by_length",
    "check_decoding",
    "decode",
    "decode_examples",
    "decode_hypotheses",
    "decode_with_errors",
    "evaluate",
    "find_writable",
    "measure_exposure_bias",
    "on_device",
    "score_outputs",
    "teacher_forced_loss",
    "teacher_forced_total",
]
