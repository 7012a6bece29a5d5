"""Metrics of running text, by hand."""

from math import log

import pytest
import torch

from freerun.metrics import diversity, entropy, ms_jaccard, repetition
from freerun.metrics.corpora import ngrams
from freerun.randomness import below


def rows_of(count, length, size, seed):
    ids = torch.arange(count)[:, None]
    return below(size, seed, "rows", ids, torch.arange(length)).tolist()


def test_ngrams_are_counted_as_often_as_they_come():
    assert ngrams([1, 2, 1, 2], n=2) == [(1, 2), (2, 1), (1, 2)]
    assert ngrams([1, 2], 3) == []


def test_ms_jaccard_by_hand():
    written, wanted = [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 6]]
    # 4 of 6 tokens, 3 of 5 pairs, 2 of 4 triples and 1 of 3 quadruples are shared.
    expected = (4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert ms_jaccard(written, wanted) == pytest.approx(expected)


def test_ms_jaccard_looks_at_all_rows_together():
    rows = rows_of(20, 30, 4, 0)
    assert ms_jaccard(rows[::-1], rows) == pytest.approx(1.0)
    assert ms_jaccard(rows, rows_of(20, 30, 4, 1)) < 0.9


def test_ms_jaccard_falls_where_outputs_repeat_each_other_or_themselves():
    rows, others = rows_of(50, 30, 4, 0), rows_of(50, 30, 4, 1)
    right = ms_jaccard(others, rows)
    assert ms_jaccard([others[0]] * 50, rows) < right / 2
    assert ms_jaccard([[1, 2] * 15] * 50, rows) < right / 2


@pytest.mark.parametrize("rows", [[[]], [[1, 2]], [[7, 7, 7, 7, 7]]])
def test_ms_jaccard_is_zero_where_no_quadruple_is_shared(rows):
    assert ms_jaccard(rows, [[1, 2, 3, 4, 5]]) == 0


def test_entropy_by_hand():
    assert entropy([[1, 2, 3, 4, 5]]) == pytest.approx(log(2))
    # Three of one quadruple, one of another.
    rows = [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [4, 3, 2, 1]]
    assert entropy(rows) == pytest.approx(-0.75 * log(0.75) - 0.25 * log(0.25))
    assert entropy([[1, 1, 1, 1, 1, 1]]) == 0
    assert entropy([[1, 2], []]) == 0


def test_repetition_is_the_mean_share_of_what_a_row_had_before():
    assert repetition([[1, 1, 1, 1, 1]], n=2) == pytest.approx(3 / 4)
    assert repetition([[1, 2, 3, 4, 5]]) == 0
    assert repetition([[1, 1, 1, 1, 1], [1, 2, 3, 4, 5], [1]], n=2) == pytest.approx(3 / 8)
    assert repetition([[1], []]) == 0


def test_diversity_is_a_product():
    row = [1, 2, 1, 2, 1, 2]
    # Of 5 pairs 2 differ, of 4 triples 2, of 3 quadruples 2.
    assert diversity([row]) == pytest.approx(2 / 5 * 2 / 4 * 2 / 3)
    assert repetition([row]) == pytest.approx(1 / 3)
