"""Reference policies: experts that complete a prefix as well as the reference target allows."""

from freerun.references.base import DEFAULT_REFERENCES, Reference, ReferenceName, make_reference
from freerun.references.max_f1 import max_f1
from freerun.references.min_edit_distance import (
    mark_next_tokens,
    min_edit_distance,
    nearest_prefix_table,
    nearest_prefixes,
    optimal_tokens,
)
from freerun.references.suffixes import best_suffix_bleu, best_suffix_bleu_1, best_suffix_gleu, copy

__all__ = [
    "DEFAULT_REFERENCES",
    "Reference",
    "ReferenceName",
    "best_suffix_bleu",
    "best_suffix_bleu_1",
    "best_suffix_gleu",
    "copy",
    "make_reference",
    "mark_next_tokens",
    "max_f1",
    "min_edit_distance",
    "nearest_prefix_table",
    "nearest_prefixes",
    "optimal_tokens",
]
