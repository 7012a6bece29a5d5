"""The best suffix against trying every one with the plain score."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.references import best_suffix_bleu, best_suffix_bleu_1, best_suffix_gleu
from tests.costs.pairs import columns, masked, pairs, plain_bleu, plain_gleu, sequences

PLAIN = {
    best_suffix_bleu_1: lambda whole, reference: plain_bleu(whole, reference, 1),
    best_suffix_bleu: plain_bleu,
    best_suffix_gleu: plain_gleu,
}
EACH = pytest.mark.parametrize("policy", PLAIN, ids=lambda policy: policy.__name__)


def completions(policy, rows, **settings):
    tokens, counts = policy(*columns(rows), **settings)
    return [row[:count].tolist() for row, count in zip(tokens, counts, strict=True)]


def tried(score, prefix, reference, unknown=None):
    """The shortest of the best suffixes. Scores that differ in the last digits only are equal."""
    target = masked(reference, unknown)
    starts = range(len(reference) + 1)
    best = max(starts, key=lambda k: (round(score(prefix + reference[k:], target), 12), k))
    return reference[best:]


@EACH
def test_by_hand(policy):
    rows = [
        ([1, 2], [1, 2, 3, 4]),  # go on
        ([], [1, 2, 3]),  # all of it
        ([1, 2, 3], [1, 2, 3]),  # nothing is missing
        ([1, 2, 3], []),
        ([], []),
        ([5], [5]),
        ([7], [5]),
    ]
    expected = [[3, 4], [1, 2, 3], [], [], [], [], [5]]
    assert completions(policy, rows) == expected


def test_without_a_match_the_shortest_suffix_is_the_empty_one():
    for policy in PLAIN:
        assert completions(policy, [([8, 9], [5, 6])], unknown=5) != [[]]
        assert completions(policy, [([8, 9], [5, 5])], unknown=5) == [[]]


@EACH
@given(rows=pairs(tokens=3, longest=8), unknown=st.sampled_from([None, 2]))
@settings(max_examples=100)
def test_it_is_the_best_of_all_suffixes(policy, rows, unknown):
    expected = [tried(PLAIN[policy], *row, unknown) for row in rows]
    assert completions(policy, rows, unknown=unknown) == expected


@EACH
@given(data=st.data(), longest=st.sampled_from([64, 70, 130]))
@settings(max_examples=6)
def test_references_of_several_machine_words(policy, data, longest):
    rows = [(data.draw(sequences(2, 40)), [data.draw(st.integers(0, 2)) for _ in range(longest)])]
    rows += [([0, 1, 0] * 15, [0, 1] * (longest // 2)), ([0] * 50, [0] * longest)]
    assert completions(policy, rows) == [tried(PLAIN[policy], *row) for row in rows]


@EACH
def test_words_of_a_large_vocabulary_are_told_apart(policy):
    rows = [([60_000, 1], [60_000, 1, 59_999, 2]), ([2**32], [0, 1, 60_000])]
    assert completions(policy, rows) == [tried(PLAIN[policy], *row) for row in rows]


def test_equal_scores_are_equal_to_the_bit():
    """Fractions that are equal, however they come about, tie: the shortest suffix is taken."""
    rows = [([0] * n, [0] * m) for n in range(6) for m in range(12)]
    for policy, plain in PLAIN.items():
        assert completions(policy, rows) == [tried(plain, *row) for row in rows]
