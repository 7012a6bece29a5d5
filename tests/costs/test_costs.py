"""The costs against hand numbers and against rapidfuzz."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from freerun.costs import edit_distance, hamming

ROWS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 3), max_size=9),
        st.lists(st.integers(0, 3), max_size=9),
    ),
    min_size=1,
    max_size=6,
)


def padded(rows, fill):
    """Rows as a rectangle, filled up with tokens that would count if they were looked at."""
    width = max(map(len, rows))
    table = torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=torch.int64)
    return table.reshape(len(rows), width), torch.tensor([len(row) for row in rows])


def distances(pairs):
    hypotheses, references = zip(*pairs, strict=True)
    return edit_distance(*padded(hypotheses, 1), *padded(references, 2)).tolist()


def letters(word):
    return [ord(letter) for letter in word]


def test_hamming_counts_cells_under_the_mask():
    hypotheses = torch.tensor([[1, 2, 3], [1, 2, 3], [1, 1, 1]])
    references = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    assert hamming(hypotheses, references, mask).tolist() == [2, 1, 0]
    shares = hamming(hypotheses, references, mask, normalised=True)
    assert shares.tolist() == pytest.approx([2 / 3, 1 / 2, 0])


def test_hamming_takes_any_number_of_row_dimensions():
    hypotheses = torch.tensor([[[0, 1], [1, 1]]])
    references = torch.zeros(1, 2, 2, dtype=torch.int64)
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    assert hamming(hypotheses, references, mask).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "distance"),
    [
        ("kitten", "sitting", 3),
        ("sunday", "saturday", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "xyz", 3),
        ("ab", "ba", 2),
        ("abcd", "bcde", 2),
    ],
)
def test_edit_distance_by_hand(hypothesis, reference, distance):
    assert distances([(letters(hypothesis), letters(reference))]) == [distance]


@given(ROWS)
@settings(deadline=None, max_examples=200)
def test_edit_distance_is_that_of_rapidfuzz(pairs):
    assert distances(pairs) == [Levenshtein.distance(a, b) for a, b in pairs]


@given(ROWS)
@settings(deadline=None, max_examples=50)
def test_edit_distance_of_a_row_does_not_depend_on_the_others(pairs):
    assert distances(pairs) == [distances([pair])[0] for pair in pairs]


def test_edit_distance_of_no_rows_is_empty():
    empty = torch.zeros(0, 3, dtype=torch.int64)
    none = torch.zeros(0, dtype=torch.int64)
    assert edit_distance(empty, none, empty, none).tolist() == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_edit_distance_on_a_gpu_is_that_on_the_cpu():
    hypotheses = torch.arange(40).reshape(4, 10) % 3
    references = torch.arange(48).reshape(4, 12) % 5
    lengths = torch.tensor([0, 3, 7, 10])
    arguments = (hypotheses, lengths, references, lengths + 2)
    there = edit_distance(*(argument.cuda() for argument in arguments))
    assert there.tolist() == edit_distance(*arguments).tolist()
