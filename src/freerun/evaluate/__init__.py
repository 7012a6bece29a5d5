"""Free-running evaluation: what a policy writes when nobody holds its hand."""

from freerun.evaluate.backspaces import Backspaces
from freerun.evaluate.batches import batches_by_length, on_device
from freerun.evaluate.decoding import GREEDY, Decoding
from freerun.evaluate.evaluation import Evaluation, evaluate, scored
from freerun.evaluate.forced import teacher_forced_loss, teacher_forced_total
from freerun.evaluate.running import attempt, check_decoding, decode
from freerun.evaluate.written import Written, outputs, write

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
