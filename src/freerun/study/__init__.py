"""Studies: comparing methods on a task, and diagnosing a trained model."""

from freerun.study.comparison import Comparison, compare
from freerun.study.diagnosis import Diagnosis, diagnose
from freerun.study.reading import read_data_frame, read_results, write_report
from freerun.study.specs import parse_method, parse_methods

__all__ = [
    "Comparison",
    "Diagnosis",
    "compare",
    "diagnose",
    "parse_method",
    "parse_methods",
    "read_data_frame",
    "read_results",
    "write_report",
]
