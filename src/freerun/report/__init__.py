"""Reports for people: tables and plots of comparisons, and the cost vectors of sentences."""

from freerun.evaluation import Summary, summary
from freerun.report.plots import NO_PLOTS, can_plot, draw, require_plots
from freerun.report.table import legend, table
from freerun.report.words import describe_comparison

__all__ = [
    "NO_PLOTS",
    "Summary",
    "can_plot",
    "describe_comparison",
    "draw",
    "legend",
    "require_plots",
    "summary",
    "table",
]
