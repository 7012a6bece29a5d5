"""Studies of several runs: comparing methods on a task."""

from freerun.study.comparison import Comparison, compare
from freerun.study.specs import parse_method, parse_methods

__all__ = [
    "Comparison",
    "compare",
    "parse_method",
    "parse_methods",
]
