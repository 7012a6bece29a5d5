"""The edit distance against hand numbers, rapidfuzz and the table in plain Python."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from freerun.costs import edit_distance, levenshtein, prefix_distances
from tests.costs.pairs import columns, masked, pairs, plain_table, sequences


def letters(word):
    return [ord(letter) for letter in word]


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
def test_by_hand(hypothesis, reference, distance):
    pair = columns([(letters(hypothesis), letters(reference))])
    assert levenshtein(*pair).tolist() == [distance]
    assert edit_distance(*pair).tolist() == [distance / max(1, len(reference))]


@given(rows=pairs())
@settings(max_examples=100)
def test_it_is_that_of_rapidfuzz(rows):
    distances = [Levenshtein.distance(*pair) for pair in rows]
    assert levenshtein(*columns(rows)).tolist() == distances
    shares = [Levenshtein.distance(own, true) / max(1, len(true)) for own, true in rows]
    assert edit_distance(*columns(rows)).tolist() == shares


@given(data=st.data())
@settings(max_examples=25)
def test_long_sequences_have_the_distance_of_rapidfuzz(data):
    """Either side, or both, longer than a machine word: two ways of computing meet here."""
    longest = [(61, 65), (65, 61), (63, 200), (200, 63), (64, 64), (100, 130)]
    rows = [data.draw(st.tuples(sequences(3, a), sequences(3, b))) for a, b in longest]
    rows += [([0, 1, 2] * 22, [0, 1, 2] * 21), ([0, 1, 2] * 21, [1, 0, 2] * 22)]
    plain = [Levenshtein.distance(*pair) for pair in rows]
    assert levenshtein(*columns(rows)).tolist() == plain
    assert [levenshtein(*columns([pair])).item() for pair in rows] == plain


@given(rows=pairs(tokens=3))
def test_the_distances_to_all_prefixes_are_the_last_row_of_the_table(rows):
    distances = prefix_distances(*columns(rows)).tolist()
    for found, (own, true) in zip(distances, rows, strict=True):
        assert found[: len(true) + 1] == plain_table(own, true)[-1]


def test_the_distances_to_all_prefixes_of_a_long_reference_are_the_last_row_too():
    own, true = [0, 1, 1, 0, 2] * 9, [1, 0, 2, 2] * 16
    assert prefix_distances(*columns([(own, true)])).tolist() == [plain_table(own, true)[-1]]


@given(rows=pairs(tokens=3), unknown=st.integers(0, 2))
def test_an_unknown_token_never_matches(rows, unknown):
    plain = [plain_table(own, masked(true, unknown))[-1] for own, true in rows]
    assert levenshtein(*columns(rows), unknown=unknown).tolist() == [row[-1] for row in plain]
    shares = [row[-1] / max(1, len(row) - 1) for row in plain]
    assert edit_distance(*columns(rows), unknown=unknown).tolist() == shares
    distances = prefix_distances(*columns(rows), unknown=unknown).tolist()
    assert [row[: len(p)] for row, p in zip(distances, plain, strict=True)] == plain
