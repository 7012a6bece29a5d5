"""Studies of several runs: comparing methods on a task."""

from freerun.study.comparison import Comparison, compare
from freerun.study.specs import method_of, methods_of

__all__ = [
    "Comparison",
    "compare",
    "method_of",
    "methods_of",
]
