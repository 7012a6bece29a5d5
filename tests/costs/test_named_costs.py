"""What holds for every cost: the same bits whatever stands around a row."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.costs import CostName, make_cost, rows
from tests.costs.pairs import columns, pairs
from tests.helpers import raises

SYMBOLS = ["O", "B-A", "I-A", "B-B", "<unk>"]
NAMES = get_args(CostName)
EACH = pytest.mark.parametrize("name", NAMES)
UNKNOWN = st.sampled_from([None, 4])


def fitting(name, rows):
    """Pairs that a cost takes: some take equal lengths only."""
    if not name.startswith("hamming"):
        return rows
    return [tuple(side[: min(map(len, row))] for side in row) for row in rows]


@EACH
@given(given_rows=pairs(tokens=5), unknown=UNKNOWN)
def test_a_row_does_not_depend_on_padding_or_on_other_rows(name, given_rows, unknown):
    cost = make_cost(name, SYMBOLS, unknown)
    rows_ = fitting(name, given_rows)
    together = cost(*columns(rows_))
    assert together.dtype == torch.float64
    alone = torch.cat([cost(*columns([row])) for row in rows_])
    assert torch.equal(together, alone)
    assert torch.equal(together, cost(*columns(rows_, fills=(-3, 70_000), extra=3)))
    assert torch.equal(together.flip(0), cost(*columns(rows_[::-1])))
    assert torch.equal(together, cost(*(tensor.int() for tensor in columns(rows_))))


@EACH
def test_a_row_among_thousands_has_the_bits_that_it_has_alone(name):
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(5, (3001, 12), generator=generator)
    own = true.where(torch.rand(3001, 12, generator=generator) < 0.6, true.flip(0))
    lengths = torch.randint(13, (3001,), generator=generator)
    others = lengths if name.startswith("hamming") else lengths.flip(0)
    cost = make_cost(name, SYMBOLS)
    together = cost(own, lengths, true, others)
    for i in [*range(7), 1499, *range(2995, 3001)]:
        row = slice(i, i + 1)
        assert torch.equal(cost(own[row], lengths[row], true[row], others[row]), together[row])


@EACH
@pytest.mark.parametrize("bytes_", [1, 3000])
def test_blocks_of_rows_change_nothing(name, bytes_, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    own, true = torch.randint(5, (2, 23, 9), generator=generator)
    lengths = torch.randint(10, (23,), generator=generator)
    cost = make_cost(name, SYMBOLS, 4)
    whole = cost(own, lengths, true, lengths)
    monkeypatch.setattr(rows, "_BYTES", bytes_)
    assert torch.equal(cost(own, lengths, true, lengths), whole)


@EACH
def test_no_rows_and_no_columns(name):
    cost = make_cost(name, SYMBOLS)
    none = torch.zeros(0, dtype=torch.int64)
    assert cost(none.reshape(0, 3), none, none.reshape(0, 3), none).shape == (0,)
    wide, narrow = torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 0, dtype=torch.int64)
    zero = torch.zeros(2, dtype=torch.int64)
    for own in (wide, narrow):
        for true in (wide, narrow):
            assert cost(own, zero, true, zero).tolist() == [0, 0]


def test_a_name_that_no_cost_has_is_an_error(unchecked):
    message = (
        "there is no cost called 'rouge'; the costs are hamming, hamming_total, edit_distance, "
        "bleu, bleu_1, gleu, chunk_f1"
    )
    with raises(ValueError, message):
        make_cost("rouge", SYMBOLS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@EACH
def test_a_gpu_gives_what_the_cpu_gives(name):
    generator = torch.Generator().manual_seed(2)
    own, true = torch.randint(5, (2, 500, 70), generator=generator)
    lengths = torch.randint(71, (500,), generator=generator)
    cost = make_cost(name, SYMBOLS, 4)
    arguments = (own, lengths, true, lengths)
    there = cost(*(argument.cuda() for argument in arguments))
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), cost(*arguments), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("hamming")])
@pytest.mark.parametrize("width", [9, 70])
def test_every_step_is_on_the_device_of_the_rows(name, width):
    """On the device without storage a tensor from elsewhere, or a look at a value, is an error.

    The Hamming costs look whether lengths are equal.
    """
    tokens = torch.ones(3, width, dtype=torch.int64, device="meta")
    lengths = torch.ones(3, dtype=torch.int64, device="meta")
    assert make_cost(name, SYMBOLS, 4)(tokens, lengths, tokens, lengths).is_meta
