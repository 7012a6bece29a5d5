"""Free-running evaluation: decode without the reference, and score the outputs."""

from freerun.evaluation.accumulated_errors import (
    AccumulatedErrors,
    measure_accumulated_errors,
)
from freerun.evaluation.backspaces import Backspaces
from freerun.evaluation.bootstrap import Interval
from freerun.evaluation.continuations import ContinuationComparison, compare_continuations
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
    average_by_position,
    decode_examples,
    decode_hypotheses,
    evaluate,
    find_writable,
    score_decoded,
    score_outputs,
    teacher_forced_loss,
    teacher_forced_total,
)
from freerun.evaluation.exposure_bias import ExposureBias, measure_exposure_bias
from freerun.evaluation.intervals import (
    MAX_SEEDS,
    Difference,
    Estimate,
    Summary,
    estimate,
    estimate_difference,
    is_clear,
    resample,
    summary,
)
from freerun.evaluation.lengths import measure_by_length
from freerun.evaluation.prefix_errors import find_reference_errors

__all__ = [
    "GREEDY",
    "MAX_SEEDS",
    "AccumulatedErrors",
    "Backspaces",
    "ContinuationComparison",
    "DecodedExamples",
    "Decoding",
    "Difference",
    "Estimate",
    "Evaluation",
    "ExposureBias",
    "Interval",
    "Summary",
    "average_by_position",
    "batches_by_length",
    "check_decoding",
    "compare_continuations",
    "decode",
    "decode_examples",
    "decode_hypotheses",
    "decode_with_errors",
    "estimate",
    "estimate_difference",
    "evaluate",
    "find_reference_errors",
    "find_writable",
    "is_clear",
    "measure_accumulated_errors",
    "measure_by_length",
    "measure_exposure_bias",
    "on_device",
    "resample",
    "score_decoded",
    "score_outputs",
    "summary",
    "teacher_forced_loss",
    "teacher_forced_total",
]
