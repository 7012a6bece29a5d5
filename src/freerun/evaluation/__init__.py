"""Free-running evaluation: what a policy writes without the reference, and how good it is."""

from freerun.evaluation.backspaces import Backspaces
from freerun.evaluation.decoding import (
    GREEDY,
    Decoding,
    attempt,
    batches_by_length,
    check_decoding,
    decode,
    on_device,
)
from freerun.evaluation.evaluation import (
    Evaluation,
    Written,
    evaluate,
    outputs,
    scored,
    teacher_forced_loss,
    teacher_forced_total,
    write,
)

__all__ = [
    "GREEDY",
    "Backspaces",
    "Decoding",
    "Evaluation",
    "Written",
    "attempt",
    "batches_by_length",
    "check_decoding",
    "decode",
    "evaluate",
    "on_device",
    "outputs",
    "scored",
    "teacher_forced_loss",
    "teacher_forced_total",
    "write",
]
