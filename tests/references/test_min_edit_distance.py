"""The exact policy for the edit distance against enumeration and the table in plain Python."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.references import (
    min_edit_distance,
    nearest_prefix_table,
    nearest_prefixes,
    optimal_tokens,
)
from tests.costs.pairs import columns, masked, pairs, plain_table, sequences

ACTIONS, EOS = 4, 3
LETTERS = range(3)


def completions(rows, **settings):
    tokens, counts = min_edit_distance(*columns(rows), **settings)
    return [row[:count].tolist() for row, count in zip(tokens, counts, strict=True)]


def distance(hypothesis, reference, unknown=None):
    return plain_table(hypothesis, masked(reference, unknown))[-1][-1]


def least(prefix, reference, unknown=None):
    """The least distance that any continuation reaches: longer ones than the reference cannot."""
    return min(
        distance([*prefix, *more], reference, unknown)
        for length in range(len(reference) + 1)
        for more in itertools.product(LETTERS, repeat=length)
    )


def test_by_hand():
    rows = [
        ([0, 1], [0, 1, 2, 0]),  # go on
        ([0, 2], [0, 1, 2, 0]),  # one was left out
        ([0, 1, 1], [0, 1, 2]),  # a repeat, or a 2 that went wrong: the shorter completion
        ([2, 2, 2, 2], [0, 1]),
        ([], [1, 2]),
        ([1], [1]),
        ([0, 1], []),
        ([], []),
    ]
    assert completions(rows) == [[2, 0], [0], [], [], [1, 2], [], [], []]


@given(rows=pairs(tokens=3, longest=4, most=3), unknown=st.sampled_from([None, 2]))
@settings(max_examples=40)
def test_no_continuation_does_better(rows, unknown):
    for (prefix, reference), more in zip(rows, completions(rows, unknown=unknown), strict=True):
        reached = distance(prefix + more, reference, unknown)
        assert reached == least(prefix, reference, unknown)
        shorter = [reference[j:] for j in range(len(reference) - len(more) + 1, len(reference) + 1)]
        assert all(distance(prefix + s, reference, unknown) > reached for s in shorter)


@given(rows=pairs(tokens=3))
@settings(max_examples=80)
def test_it_goes_on_after_the_last_prefix_that_is_nearest(rows):
    expected = []
    for prefix, reference in rows:
        row = plain_table(prefix, reference)[-1]
        expected.append(reference[max(j for j, d in enumerate(row) if d == min(row)) :])
    assert completions(rows) == expected


def test_long_references():
    reference = [0, 1, 2, 2, 1] * 20
    assert completions([(reference[:70], reference)]) == [reference[70:]]
    assert completions([([*reference[:40], 0, *reference[43:80]], reference)]) == [reference[80:]]


def test_tokens_that_match_nothing_cost_as_much_later_as_now():
    """[1] is nearer to [2] than to [2, 2], but the second 2 would be lost just as the first."""
    assert completions([([1], [2, 2])]) == [[2]]
    assert completions([([1], [2, 2])], unknown=2) == [[]]


def optimal(rows, **settings):
    return optimal_tokens(*columns(rows), ACTIONS, EOS, **settings).tolist()


@given(rows=pairs(tokens=3))
@settings(max_examples=80)
def test_optimal_tokens_are_those_of_the_table(rows):
    expected = []
    for prefix, reference in rows:
        row = plain_table(prefix, reference)[-1]
        after = [*reference, EOS]
        best = {after[j] for j, d in enumerate(row) if d == min(row)}
        expected.append([token in best for token in range(ACTIONS)])
    assert optimal(rows) == expected


@given(rows=pairs(tokens=3, longest=3, most=2), unknown=st.sampled_from([None, 2]))
@settings(max_examples=40)
def test_after_an_optimal_token_alone_can_the_least_distance_be_reached(rows, unknown):
    found = optimal(rows, unknown=unknown)
    for (prefix, reference), row in zip(rows, found, strict=True):
        reached = [least([*prefix, token], reference, unknown) for token in LETTERS]
        reached.append(distance(prefix, reference, unknown))  # eos
        assert row == [value == least(prefix, reference, unknown) for value in reached]


@pytest.mark.parametrize("eos", range(ACTIONS))
@given(data=st.data())
@settings(max_examples=30)
def test_eos_may_be_any_token(eos, data):
    others = [token for token in range(ACTIONS) if token != eos]
    rows = data.draw(st.lists(st.tuples(sequences(3, 5), sequences(3, 5)), min_size=1, max_size=4))
    named = [tuple([others[token] for token in side] for side in row) for row in rows]
    found = optimal_tokens(*columns(named), ACTIONS, eos, unknown=others[2])
    order = torch.tensor([*others, eos])
    assert found[:, order].tolist() == optimal(rows, unknown=2)


def test_optimal_tokens_of_a_large_vocabulary():
    found = optimal_tokens(*columns([([60_000], [60_000, 59_999])]), 60_002, 60_001)
    assert found.nonzero().tolist() == [[0, 59_999]]


def test_optimal_tokens_stand_on_the_device_of_the_rows():
    rows = [tensor.to("meta") for tensor in columns([([0], [1, 2]), ([1, 2], [0])])]
    assert optimal_tokens(*rows, ACTIONS, EOS, unknown=2).is_meta


@given(rows=pairs(tokens=3), unknown=st.sampled_from([None, 2]))
@settings(max_examples=60)
def test_the_table_has_the_nearest_prefixes_of_every_prefix(rows, unknown):
    outputs, lengths, *references = columns(rows)
    table = nearest_prefix_table(outputs, lengths, *references, unknown=unknown)
    for (output, reference), best in zip(rows, table, strict=True):
        for i in range(len(output) + 1):
            lost = [reference[j:].count(unknown) for j in range(len(reference) + 1)]
            row = plain_table(output[:i], masked(reference, unknown))[-1]
            sums = [d + more for d, more in zip(row, lost, strict=True)]
            expected = [j for j, total in enumerate(sums) if total == min(sums)]
            assert best[i].nonzero()[:, 0].tolist() == expected
            one = columns([(output[:i], reference)])
            assert nearest_prefixes(*one, unknown=unknown).tolist() == [max(expected)]
