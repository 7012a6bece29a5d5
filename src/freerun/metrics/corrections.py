"""The F-score of corrections: of the edits that turn sources into outputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from freerun.arguments import check_number
from freerun.metrics.base import metric
from freerun.metrics.statistics import Statistics, Sums, Values

Edit = tuple[int, int, tuple[str, ...]]
"""The start and the end of what is replaced in a source, and what replaces it."""


def find_edits(source: Sequence[str], target: Sequence[str]) -> set[Edit]:
    """Return the edits from a source to a target, of the fewest tokens; adjacent ones are one."""
    found: list[Edit] = []
    for part in Levenshtein.opcodes(list(source), list(target)):
        if part.tag == "equal":
            continue
        start, written = part.src_start, tuple(target[part.dest_start : part.dest_end])
        if found and found[-1][1] == start:
            start, _, before = found.pop()
            written = (*before, *written)
        found.append((start, part.src_end, written))
    return set(found)


@metric(form="corrections")
def edit_f(
    outputs: Sequence[tuple[str, str]],
    references: Sequence[str],
    *,
    beta: float = 0.5,
    unit: Literal["words", "characters"] = "words",
) -> Statistics:
    """Compute the F-score of edits of sources, by default F0.5, in [0, 1], for correction.

    An edit of an output is right if the reference has the same one: the same place of the source
    and the same text. With β = 0.5, precision weighs twice as much as recall (Ng et al. 2014,
    CoNLL). Edits are those of the smallest Levenshtein distance, of any language, and not of the
    types of ERRANT. If neither outputs nor references have an edit, the score is 1.

    Args:
        outputs: the source and the output of each example.
        references: one reference for each.
        beta: β, above 0.
        unit: words between white space, or characters.

    Raises:
        ValueError: if β is not above 0.
    """
    check_number("beta", beta, 1e-9, 1e9)
    cut = str.split if unit == "words" else list
    rows = []
    for (source, output), reference in zip(outputs, references, strict=True):
        ours, theirs = (find_edits(cut(source), cut(text)) for text in (output, reference))
        rows.append((len(ours & theirs), len(ours), len(theirs)))
    return Statistics.build(rows, 3, partial(_compute_f, beta * beta))


def _compute_f(square: float, sums: Sums) -> Values:
    """Compute F from the numbers of right edits, of edits of outputs and of references."""
    right, found, wanted = sums.T
    weights = found + square * wanted
    return np.where(weights > 0, (1 + square) * right / np.maximum(weights, 1e-300), 1.0)
