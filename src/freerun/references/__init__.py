"""Reference policies: experts that complete a prefix as well as the reference target allows."""

from freerun.references.best_suffix import best_suffix_bleu, best_suffix_bleu_1, best_suffix_gleu
from freerun.references.copy import copy
from freerun.references.edit_distance import edit_distance, optimal_tokens
from freerun.references.max_f1 import max_f1
from freerun.references.named import DEFAULT_REFERENCES, Reference, ReferenceName, make_reference

__all__ = [
    "DEFAULT_REFERENCES",
    "Reference",
    "ReferenceName",
    "best_suffix_bleu",
    "best_suffix_bleu_1",
    "best_suffix_gleu",
    "copy",
    "edit_distance",
    "make_reference",
    "max_f1",
    "optimal_tokens",
]
