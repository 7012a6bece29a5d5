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

__all__ = [
    "GREEDY",
    "Backspaces",
    "DecodedExamples",
    "Decoding",
    "Evaluation",
    "batches_by_length",
    "check_decoding",
    "decode",
    "decode_examples",
    "decode_hypotheses",
    "decode_with_errors",
    "evaluate",
    "find_writable",
    "on_device",
    "score_outputs",
    "teacher_forced_loss",
    "teacher_forced_total",
]
