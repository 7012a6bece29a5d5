"""Costs of outputs, given their references: pure, batched functions that run on any device."""

from freerun.costs.base import Cost, CostName, PythonCost, check_costs, make_cost
from freerun.costs.chunks import chunk_f1, chunk_tags
from freerun.costs.edit_distance import edit_distance, levenshtein, prefix_distances
from freerun.costs.hamming import hamming, hamming_total
from freerun.costs.ngrams import bleu, bleu_1, gleu

__all__ = [
    "Cost",
    "CostName",
    "PythonCost",
    "bleu",
    "bleu_1",
    "check_costs",
    "chunk_f1",
    "chunk_tags",
    "edit_distance",
    "gleu",
    "hamming",
    "hamming_total",
    "levenshtein",
    "make_cost",
    "prefix_distances",
]
