"""Metrics of all outputs together, for open-ended text with many acceptable outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import exp, log
from statistics import fmean

import numpy as np
from jaxtyping import Float64

from freerun.arguments import check_number
from freerun.metrics.base import TokenRows, metric
from freerun.metrics.statistics import Statistics, Sums, Values, divide_sums

ORDER = 4
"""The maximum length of n-grams."""


def ngrams(row: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """Return the n-grams of a row, in their order."""
    return list(zip(*(row[i:] for i in range(n)), strict=False))


@metric(form="tokens", corpus=True)
def ms_jaccard(outputs: TokenRows, references: TokenRows) -> float:
    """Compute the multiset Jaccard similarity of the n-grams of outputs and references, in [0, 1].

    MS-Jaccard-4 (Montahaei, Alihosseini, Soleymani Baghshah 2019, arXiv 1904.03971): with C(g) the
    count of n-gram g in all outputs, and R(g) in all references,

        Σ_g min(C(g), R(g)) / Σ_g max(C(g), R(g)),

    averaged geometrically over n = 1 … 4. It is low for gibberish, for repetition, and for the same
    text for every source. If there are not as many outputs as references, C and R are counts per
    text, as in the paper. An n for which neither side has an n-gram is left out; if all are left
    out, as for empty texts, the value is 1.

    Args:
        outputs: the outputs.
        references: the references.
    """
    shares = []
    for n in range(1, ORDER + 1):
        # Each side is multiplied by the number of texts of the other, so that all numbers are
        # integers.
        written, wanted = _counts(outputs, n, len(references)), _counts(references, n, len(outputs))
        if written or wanted:
            shares.append((written & wanted).total() / (written | wanted).total())
    if not all(shares):
        return 0.0
    return exp(fmean(map(log, shares))) if shares else 1.0


@metric(form="tokens", greater_is_better=None, corpus=True, percent=False)
def entropy(outputs: TokenRows, references: TokenRows = ()) -> float:
    """Compute the entropy of the 4-grams of all outputs together, in nats; at least 0.

    -Σ_g p(g)·log p(g), where p(g) is the relative frequency of 4-gram g (Zhang et al. 2018, arXiv
    1809.05972). It grows with the number of outputs, so compare only values for equally many, and
    compare them with the value for human text. References are ignored.
    """
    counts = _counts(outputs, ORDER)
    total = counts.total()
    return sum((count / total * log(total / count) for count in counts.values()), 0.0)


@metric(form="tokens", corpus=True)
def diversity(outputs: TokenRows, references: TokenRows = ()) -> Statistics:
    """Compute the product of 1 - seq-rep-n for n = 2, 3, 4, in [0, 1].

    It is high if outputs do not repeat themselves (Su et al. 2022, arXiv 2202.06417). seq-rep-n is
    a mean over outputs, as in `repetition`; code that sums the n-grams of all outputs before
    dividing gives long outputs more weight, and other values. References are ignored.
    """
    found = [_count_repetition(outputs, n) for n in range(2, ORDER + 1)]
    return Statistics(np.hstack(found), _multiply_diversity)


@metric(form="tokens", greater_is_better=False, corpus=True)
def repetition(outputs: TokenRows, references: TokenRows = (), *, n: int = ORDER) -> Statistics:
    """Compute the mean fraction of repeated n-grams in an output, in [0, 1].

    seq-rep-n of Welleck et al. 2020 (arXiv 1908.04319): 1 - |distinct n-grams| / |n-grams|.
    Outputs with fewer than n tokens are excluded; if none is left, the value is 0. References are
    ignored.

    Args:
        outputs: the outputs.
        references: ignored.
        n: the length of n-grams, at least 1.

    Raises:
        ValueError: if n is below 1.
    """
    check_number("n", n, 1)
    return Statistics(_count_repetition(outputs, n), divide_sums)


def _count_repetition(outputs: TokenRows, n: int) -> Float64[np.ndarray, "n 2"]:
    """Return the fraction of repeated n-grams of every output, and whether it has n tokens."""
    rows = np.zeros((len(outputs), 2))
    for i, row in enumerate(outputs):
        if grams := ngrams(row, n):
            rows[i] = 1 - len(set(grams)) / len(grams), 1
    return rows


def _multiply_diversity(sums: Sums) -> Values:
    values = np.ones(len(sums))
    for i in range(0, sums.shape[1], 2):
        values *= 1 - divide_sums(sums[:, i : i + 2])
    return values


def _counts(rows: Iterable[Sequence[int]], n: int, factor: int = 1) -> Counter[tuple[int, ...]]:
    """Count the n-grams of all rows, each `factor` times."""
    counts: Counter[tuple[int, ...]] = Counter()
    for row in rows:
        counts.update(ngrams(row, n))
    return Counter({gram: factor * count for gram, count in counts.items()})
