"""Comparing methods on a task."""

from freerun.comparison.comparing import Comparison, compare, suitable
from freerun.comparison.specs import method_of, methods_of

__all__ = ["Comparison", "compare", "method_of", "methods_of", "suitable"]
