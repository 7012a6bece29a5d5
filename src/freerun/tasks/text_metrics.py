"""What is reported of running text without looking at single outputs: n-grams of all together.

An n-gram is of tokens, as a model writes them, so figures of different tokens cannot be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import exp, log, prod
from statistics import fmean

from freerun.tasks.metrics import Sequences

ORDER = 4
"""The longest n-grams that are looked at."""


def ngrams(row: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """The n-grams of a row, as often as they come."""
    return list(zip(*(row[i:] for i in range(n)), strict=False))


def ms_jaccard(hypotheses: Sequences, references: Sequences) -> float:
    """How much of their n-grams outputs and references have in common, all together, in [0, 1].

    MS-Jaccard-4 (Montahaei, Alihosseini, Soleymani Baghshah 2019, arXiv 1904.03971): with C(g) how
    often an n-gram comes in all outputs, and R(g) in all references,

        Σ_g min(C(g), R(g)) / Σ_g max(C(g), R(g)),

    of which it is the geometric mean over n = 1 … 4. Gibberish lowers it, and so does what is
    written too often: repetition, and the same text for every source.

    Args:
        hypotheses: the outputs.
        references: as many references.
    """
    shares = []
    for n in range(1, ORDER + 1):
        written, wanted = _counts(hypotheses, n), _counts(references, n)
        shares.append((written & wanted).total() / max((written | wanted).total(), 1))
    return exp(fmean(map(log, shares))) if all(shares) else 0.0


def entropy(rows: Sequences) -> float:
    """The entropy of the 4-grams of all rows together, in nats; at least 0.

    -Σ_g p(g)·log p(g), where p(g) is the share of 4-gram g among all (Zhang et al. 2018, arXiv
    1809.05972). It grows with the number of rows: compare figures of equally many.
    """
    counts = _counts(rows, ORDER)
    total = counts.total()
    return sum((count / total * log(total / count) for count in counts.values()), 0.0)


def repetition(rows: Sequences, n: int = ORDER) -> float:
    """The mean share of the n-grams of a row that it had before, in [0, 1].

    seq-rep-n of Welleck et al. 2020 (arXiv 1908.04319): 1 - |different n-grams| / |n-grams|. Rows
    with fewer than n tokens are left out of the mean; of none, it is 0.
    """
    found = [ngrams(row, n) for row in rows if len(row) >= n]
    return fmean(1 - len(set(grams)) / len(grams) for grams in found) if found else 0.0


def diversity(rows: Sequences) -> float:
    """The product of 1 - seq-rep-n for n = 2, 3, 4 (Su et al. 2022, arXiv 2202.06417), in [0, 1].

    It says how little each row repeats itself.
    """
    return prod(1 - repetition(rows, n) for n in range(2, ORDER + 1))


def own_metrics(rows: Sequences) -> dict[str, float]:
    """What texts are like by themselves: `entropy`, `diversity` and `repetition`."""
    return {"entropy": entropy(rows), "diversity": diversity(rows), "repetition": repetition(rows)}


def _counts(rows: Iterable[Sequence[int]], n: int) -> Counter[tuple[int, ...]]:
    counts: Counter[tuple[int, ...]] = Counter()
    for row in rows:
        counts.update(ngrams(row, n))
    return counts
