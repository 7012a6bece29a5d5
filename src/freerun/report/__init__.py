"""Reports for people: tables and plots of comparisons, and the cost vectors of sentences."""

from freerun.evaluation import Summary, summary
from freerun.report.plots import draw, require_plots
from freerun.report.table import legend, table

__all__ = ["Summary", "draw", "legend", "require_plots", "summary", "table"]
