"""The cost vectors of a sentence: the cost of every token at every cell, and its output."""

from freerun.report.cost_vectors.picture import picture, save_picture
from freerun.report.cost_vectors.terminal import HeatMap, Outcomes, heading, outputs_of_cell
from freerun.report.cost_vectors.values import CellCosts, CostVectors, TriedToken, cost_vectors

__all__ = [
    "CellCosts",
    "CostVectors",
    "HeatMap",
    "Outcomes",
    "TriedToken",
    "cost_vectors",
    "heading",
    "outputs_of_cell",
    "picture",
    "save_picture",
]
