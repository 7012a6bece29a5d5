"""BLEU and GLEU against hand numbers and against counting in plain Python."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.costs import bleu, bleu_1, gleu
from freerun.costs.ngrams import count_matches
from tests.costs.pairs import (
    columns,
    masked,
    pairs,
    plain_bleu,
    plain_gleu,
    plain_matches,
    sequences,
)

PLAIN = {
    bleu: plain_bleu,
    bleu_1: lambda hypothesis, reference: plain_bleu(hypothesis, reference, 1),
    gleu: plain_gleu,
}
EACH = pytest.mark.parametrize("cost", PLAIN, ids=lambda cost: cost.__name__)


def letters(words):
    return [ord(word) for word in words]


def one(cost, hypothesis, reference):
    return cost(*columns([(letters(hypothesis), letters(reference))])).item()


@EACH
def test_the_reference_itself_costs_nothing(cost):
    for length in range(12):
        words = "abcabddcbaab"[:length]
        assert one(cost, words, words) == 0


@EACH
@pytest.mark.parametrize(("hypothesis", "reference"), [("", "ab"), ("ab", ""), ("c", "a")])
def test_no_match_costs_one(cost, hypothesis, reference):
    assert one(cost, hypothesis, reference) == 1


def test_bleu_by_hand():
    # words 3 of 4, pairs 2 of 3, triples 1 of 2, fours 0 of 1; each with one added
    fractions = 4 / 5 * 3 / 4 * 2 / 3 * 1 / 2
    assert one(bleu, "abcx", "abcd") == pytest.approx(1 - fractions**0.25, abs=1e-15)
    # words 2 of 2, pairs 1 of 1, none longer; half as long as the reference
    assert one(bleu, "ab", "abcd") == pytest.approx(1 - math.exp(-1), abs=1e-15)
    # a longer output has no penalty but its counts: 2 of 4, 1 of 3, 0 of 2, 0 of 1
    fractions = 3 / 5 * 2 / 4 * 1 / 3 * 1 / 2
    assert one(bleu, "abxy", "ab") == pytest.approx(1 - fractions**0.25, abs=1e-15)


def test_bleu_1_by_hand():
    assert one(bleu_1, "cab", "abc") == 0
    assert one(bleu_1, "aaa", "abc") == pytest.approx(1 - 2 / 4)  # the second a is one too many
    assert one(bleu_1, "a", "abc") == pytest.approx(1 - math.exp(-2))


def test_gleu_by_hand():
    # 3 words, 2 pairs, 1 triple of 4 + 3 + 2 + 1
    assert one(gleu, "abcx", "abcd") == pytest.approx(1 - 6 / 10)
    # 2 words and 1 pair of what the longer side has
    assert one(gleu, "ab", "abcd") == pytest.approx(1 - 3 / 10)
    assert one(gleu, "abxy", "ab") == pytest.approx(1 - 3 / 10)


@EACH
@given(rows=pairs())
@settings(max_examples=80)
def test_a_cost_is_that_of_counting_in_python(cost, rows):
    plain = [1 - PLAIN[cost](*pair) for pair in rows]
    assert cost(*columns(rows)).tolist() == pytest.approx(plain, abs=1e-15)


@EACH
@given(rows=pairs(tokens=3), unknown=st.integers(0, 2))
def test_an_unknown_token_never_matches(cost, rows, unknown):
    plain = [1 - PLAIN[cost](own, masked(true, unknown)) for own, true in rows]
    found = cost(*columns(rows), unknown=unknown)
    assert found.tolist() == pytest.approx(plain, abs=1e-15)
    own, lengths, true, true_lengths = columns(rows)
    marked = true.where(true != unknown, -1)
    assert torch.equal(cost(own, lengths, marked, true_lengths), found)


@given(data=st.data(), longest=st.sampled_from([70, 130, 200]))
@settings(max_examples=15)
def test_references_of_several_machine_words_count_as_in_python(data, longest):
    """n-grams that lie across the border of two words, and many equals in each of them."""
    rows = [
        (data.draw(sequences(3, 90)), [data.draw(st.integers(0, 2)) for _ in range(longest)]),
        (data.draw(sequences(3, 90)), data.draw(sequences(3, longest))),
        ([0] * 90, [0] * longest),
    ]
    plain = [[plain_matches(*pair, n) for pair in rows] for n in (1, 2, 3, 4)]
    assert count_matches(*columns(rows), 4).tolist() == plain


@pytest.mark.parametrize("length", [62, 63, 64, 126, 127])
def test_a_reference_at_the_edge_of_a_machine_word_matches_itself(length):
    words = [(7 * i * i) % 11 for i in range(length)]
    for cost in PLAIN:
        assert cost(*columns([(words, words)])).tolist() == [0]


def test_words_of_a_large_vocabulary_are_told_apart():
    """Ids that differ by a power of two, and n-grams whose ids have equal sums or products."""
    rows = [
        ([1, 60_000], [60_000, 1]),
        ([1, 65_537], [1, 1]),
        ([59_999, 2**31, 2**32], [59_999, 0, 0]),
        ([2**40 + 3, 4], [3, 4]),
    ]
    plain = [1 - plain_bleu(*pair) for pair in rows]
    assert bleu(*columns(rows)).tolist() == pytest.approx(plain, abs=1e-15)
