"""Costs: what an output loses against its reference, as pure batched functions on any device."""

from freerun.costs.edit_distance import edit_distance
from freerun.costs.hamming import hamming

__all__ = ["edit_distance", "hamming"]
