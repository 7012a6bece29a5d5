"""The flat store of sentences, and splits of them."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.data import DataError
from freerun.data.splits import count_shared, hold_out, split_by_key
from freerun.data.store import Ragged, StoredExamples, TokenSequences
from tests.helpers import raises

ROWS = [[1, 2, 3], [4], [], [5, 6]]


def test_rows_come_back_as_they_went_in():
    rows = TokenSequences(Ragged.from_rows(ROWS, 9))
    assert list(rows) == ROWS
    assert [rows[i] for i in range(4)] == ROWS
    assert rows[-1] == [5, 6]
    assert rows[1:3] == [[4], []]
    assert len(rows) == 4
    with pytest.raises(IndexError):
        rows[4]


def test_gathering_pads_with_the_padding_and_the_mask_tells():
    values, mask = Ragged.from_rows(ROWS, 9).gather(torch.tensor([3, 1, 3]))
    assert values.tolist() == [[5, 6], [4, 9], [5, 6]]
    assert mask.tolist() == [[True, True], [True, False], [True, True]]


def test_vectors_are_gathered_like_numbers():
    rows = Ragged.from_values([[1.0, 2], [3, 4], [5, 6], [0, 0]], [1, 2])
    values, mask = rows.gather(torch.tensor([0, 1]))
    assert values.tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]
    assert mask.tolist() == [[True, False], [True, True]]


def test_shortened_rows_share_their_values():
    rows = Ragged.from_rows([[1, 2, 3], [4, 5]], 9)
    assert list(TokenSequences(rows.drop_last(1))) == [[1, 2], [4]]
    assert rows.drop_last(1).values is rows.values
    assert rows.drop_last(1).gather(torch.tensor([0, 1]))[0].tolist() == [[1, 2], [4, 9]]


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=50)
def test_gathering_is_padding_row_by_row(rows, data):
    numbers = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    values, mask = Ragged.from_rows(rows, 10).gather(torch.tensor(numbers))
    width = max(len(rows[i]) for i in numbers)
    assert values.tolist() == [rows[i] + [10] * (width - len(rows[i])) for i in numbers]
    assert mask.sum(1).tolist() == [len(rows[i]) for i in numbers]


def test_batches_name_their_examples_and_keep_eos():
    rows = Ragged.from_rows([[1, 2, 7], [3, 7]], 9)
    examples = StoredExamples(rows.drop_last(1), rows, eos=True)
    batch = examples.batch([1, 0])
    assert batch.ids.tolist() == [1, 0]
    assert batch.source.values.tolist() == [[3, 9], [1, 2]]
    assert batch.target.tolist() == [[3, 7, 9], [1, 2, 7]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert list(examples.references) == [[1, 2], [3]]
    assert examples.batch(torch.tensor([1])).target.tolist() == [[3, 7]]


def test_examples_can_be_sent_to_another_process():
    rows = Ragged.from_rows(ROWS, 9)
    again = pickle.loads(pickle.dumps(StoredExamples(rows, rows, eos=False)))
    assert again.batch([0]).target.tolist() == [[1, 2, 3]]


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None, max_examples=100)
def test_a_split_keeps_equal_examples_together_and_loses_none(keys, one, other):
    parts = split_by_key(keys, [one, other], 0, "stream")
    assert sorted(number for part in parts for number in part) == list(range(len(keys)))
    assert all(part == sorted(part) for part in parts)
    assert len(parts[0]) <= one
    assert len(parts[1]) <= other
    sides = [{keys[number] for number in part} for part in parts]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]


def test_a_split_is_fixed_by_its_seed_alone():
    keys = list(range(100))
    assert split_by_key(keys, [10], 0, "a") == split_by_key(keys, [10], 0, "a")
    assert split_by_key(keys, [10], 0, "a") != split_by_key(keys, [10], 1, "a")
    assert split_by_key(keys, [10], 0, "a") != split_by_key(keys, [10], 0, "b")
    assert len(split_by_key(keys, [10], 0, "a")[0]) == 10


def test_a_tenth_is_held_out():
    rest, held = hold_out(list("abcdefghijklmnopqrstuvwxyz"), str, "file", 0, "dev")
    assert len(held) == 2
    assert sorted(rest + held) == list("abcdefghijklmnopqrstuvwxyz")


def test_equal_examples_cannot_be_split():
    with raises(DataError, "file: 1 different examples are too few to set some apart"):
        hold_out(["same"] * 20, str, "file", 0, "dev")


def test_shared_counts_the_first():
    assert count_shared("aabx", "abc") == 3
