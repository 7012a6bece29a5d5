"""Studies of several runs: comparing methods on a task."""

from freerun.study.comparison import Comparison, compare
from freerun.study.reading import load, read_results, write_report
from freerun.study.specs import parse_method, parse_methods

__all__ = [
    "Comparison",
    "compare",
    "load",
    "parse_method",
    "parse_methods",
    "read_results",
    "write_report",
]
