"""What holds for every reference policy, and which suits which cost."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.costs import CostName, make_cost, rows
from freerun.references import DEFAULT_REFERENCES, ReferenceName, copy, make_reference
from tests.costs.pairs import columns, pairs
from tests.helpers import raises

SYMBOLS = ["O", "B-A", "I-A", "B-B", "<unk>"]
EACH = pytest.mark.parametrize("name", get_args(ReferenceName))


def completions(policy, *arguments):
    tokens, counts = policy(*arguments)
    return [row[:count].tolist() for row, count in zip(tokens, counts, strict=True)]


def test_copying_goes_on_where_the_reference_stands():
    given_rows = [
        ([9, 9], [1, 2, 3, 4]),
        ([], [1, 2]),
        ([1, 2], [3, 4]),
        ([1, 2, 3], [5]),
        ([], []),
    ]
    assert completions(copy, *columns(given_rows)) == [[3, 4], [1, 2], [], [], []]


@EACH
@given(given_rows=pairs(tokens=5), unknown=st.sampled_from([None, 4]))
def test_a_row_does_not_depend_on_padding_or_on_other_rows(name, given_rows, unknown):
    policy = make_reference(name, SYMBOLS, unknown)
    together = completions(policy, *columns(given_rows))
    assert together == [completions(policy, *columns([row]))[0] for row in given_rows]
    assert together == completions(policy, *columns(given_rows, fills=(-3, 70_000), extra=3))
    assert together == completions(policy, *columns(given_rows[::-1]))[::-1]
    narrow = [tensor.int() for tensor in columns(given_rows)]
    assert policy(*narrow)[0].dtype == torch.int32
    assert together == completions(policy, *narrow)


@EACH
@pytest.mark.parametrize("bytes_", [1, 6000])
def test_blocks_of_rows_change_nothing(name, bytes_, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    own, true = torch.randint(5, (2, 23, 9), generator=generator)
    lengths = torch.randint(10, (23,), generator=generator)
    policy = make_reference(name, SYMBOLS, 4)
    whole = completions(policy, own, lengths, true, lengths.flip(0))
    monkeypatch.setattr(rows, "_BYTES", bytes_)
    assert completions(policy, own, lengths, true, lengths.flip(0)) == whole


@EACH
def test_no_rows_and_no_columns(name):
    policy = make_reference(name, SYMBOLS)
    none = torch.zeros(0, dtype=torch.int64)
    assert completions(policy, none.reshape(0, 3), none, none.reshape(0, 3), none) == []
    wide, narrow = torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 0, dtype=torch.int64)
    zero, three = torch.zeros(2, dtype=torch.int64), torch.full((2,), 3)
    for own in (wide, narrow):
        assert completions(policy, own, zero, wide, three) == [[1, 1, 1]] * 2
        for true in (wide, narrow):
            assert completions(policy, own, zero, true, zero) == [[], []]


def test_every_cost_has_a_policy_that_suits_it():
    assert set(DEFAULT_REFERENCES) == set(get_args(CostName))
    assert set(DEFAULT_REFERENCES.values()) <= set(get_args(ReferenceName))


@pytest.mark.parametrize("name", get_args(CostName))
@given(given_rows=pairs(tokens=4))
def test_after_a_prefix_of_the_reference_nothing_is_lost(name, given_rows):
    cut = [(true[: len(own)], true) for own, true in given_rows if true] or [([], [1])]
    more = completions(make_reference(DEFAULT_REFERENCES[name], SYMBOLS), *columns(cut))
    whole = [([*own, *rest], true) for (own, true), rest in zip(cut, more, strict=True)]
    assert make_cost(name, SYMBOLS)(*columns(whole)).tolist() == [0] * len(cut)


def test_a_name_that_no_policy_has_is_an_error(unchecked):
    message = (
        "there is no reference policy called 'oracle'; they are copy, best_suffix_bleu_1, "
        "best_suffix_bleu, best_suffix_gleu, max_f1, min_edit_distance"
    )
    with raises(ValueError, message):
        make_reference("oracle", SYMBOLS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@EACH
@pytest.mark.parametrize("width", [20, 70])
def test_a_gpu_gives_what_the_cpu_gives(name, width):
    generator = torch.Generator().manual_seed(2)
    own, true = torch.randint(5, (2, 300, width), generator=generator)
    lengths = torch.randint(width + 1, (300,), generator=generator)
    policy = make_reference(name, SYMBOLS, 4)
    arguments = (own, lengths, true, lengths.flip(0))
    there = completions(policy, *(argument.cuda() for argument in arguments))
    assert there == completions(policy, *arguments)


@EACH
@pytest.mark.parametrize("width", [9, 70])
def test_every_step_is_on_the_device_of_the_rows(name, width):
    """On the device without storage a tensor from elsewhere, or a look at a value, is an error."""
    tokens = torch.ones(3, width, dtype=torch.int64, device="meta")
    lengths = torch.ones(3, dtype=torch.int64, device="meta")
    found, counts = make_reference(name, SYMBOLS, 4)(tokens, lengths, tokens, lengths)
    assert found.is_meta
    assert counts.is_meta
