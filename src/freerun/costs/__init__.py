"""Costs: what an output loses against its reference, as pure batched functions on any device."""

from freerun.costs.bleu import bleu, bleu_1
from freerun.costs.chunks import chunk_f1, chunk_tags
from freerun.costs.cost import Cost, CostName, named_cost
from freerun.costs.edit_distance import edit_distance, levenshtein, prefix_distances
from freerun.costs.gleu import gleu
from freerun.costs.hamming import hamming, hamming_total
from freerun.costs.python_cost import PythonCost, checked

__all__ = [
    "Cost",
    "CostName",
    "PythonCost",
    "bleu",
    "bleu_1",
    "checked",
    "chunk_f1",
    "chunk_tags",
    "edit_distance",
    "gleu",
    "hamming",
    "hamming_total",
    "levenshtein",
    "named_cost",
    "prefix_distances",
]
