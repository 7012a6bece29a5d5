"""What may be written wrongly: tables and any token."""

import pytest
import torch

from freerun.backspaces import Alternatives, AnyToken
from tests.helpers import raises


def chosen(wrong, token, draws=1000):
    """All that are chosen for a token, with how often, over evenly spread draws."""
    spread = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    found = wrong.choose(torch.full((draws,), token), spread)
    values, counts = found.unique(return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_a_table():
    wrong = Alternatives.build({2: [0, 3], 0: [4], 1: []}, 6)
    assert wrong.exist(torch.arange(6)).tolist() == [True, False, True, False, False, False]
    assert wrong.counts.tolist() == [1, 0, 2, 0, 0, 0]
    assert chosen(wrong, 2) == {0: 500, 3: 500}
    assert chosen(wrong, 0) == {4: 1000}


def test_any_token_but_the_right_one():
    wrong = AnyToken.build(6, leave_out=[4, 1])
    assert chosen(wrong, 0, 900) == {2: 300, 3: 300, 5: 300}
    assert chosen(wrong, 3, 900) == {0: 300, 2: 300, 5: 300}
    assert chosen(wrong, 5, 900) == {0: 300, 2: 300, 3: 300}
    assert chosen(wrong, 4) == {0: 250, 2: 250, 3: 250, 5: 250}
    assert wrong.exist(torch.arange(6)).all()


def test_nothing_is_left_out_where_nothing_is_named():
    assert chosen(AnyToken.build(3), 1) == {0: 500, 2: 500}


def test_a_token_that_is_alone_has_no_other():
    wrong = AnyToken.build(3, leave_out=[1, 2])
    assert wrong.exist(torch.arange(3)).tolist() == [False, True, True]
    assert chosen(wrong, 1) == {0: 1000}


def test_any_token_makes_no_table_of_pairs():
    """151,936 actions, as Qwen2 has: a table would take 172 GiB."""
    wrong = AnyToken.build(151_936, leave_out=[7])
    draws = torch.tensor([1e-9, 1 - 1e-9], dtype=torch.float64)
    assert wrong.choose(torch.tensor([0, 151_935]), draws).tolist() == [1, 151_934]


def test_draws_and_tokens_of_any_shape():
    tokens = torch.tensor([[0, 1], [2, 2]])
    draws = torch.full((2, 2), 0.99, dtype=torch.float64)
    assert AnyToken.build(3).choose(tokens, draws).tolist() == [[2, 2], [1, 1]]
    table = Alternatives.build({0: [1, 2], 1: [0], 2: [0, 1]}, 3)
    assert table.choose(tokens, draws).tolist() == [[2, 0], [1, 1]]


@pytest.mark.parametrize(
    ("mistakes", "message"),
    [
        ({5: [0]}, "mistakes of token 5: 5 is not an action; actions are 0 to 2"),
        ({0: [1, -1]}, "mistakes of token 0: -1 is not an action; actions are 0 to 2"),
        ({1: [0, 1]}, "token 1 is named as a mistake for itself"),
        ({1: [0, 2, 0]}, "a mistake for token 1 is named twice"),
        ({}, "no token has a mistake"),
        ({1: []}, "no token has a mistake"),
    ],
)
def test_tables_that_are_refused(mistakes, message):
    with raises(ValueError, message):
        Alternatives.build(mistakes, 3)


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        ([3], "3 is not an action; actions are 0 to 2"),
        ([0, 1, 2], "all actions are left out; one at least must be written wrongly"),
    ],
)
def test_leaving_out_too_much(leave_out, message):
    with raises(ValueError, message):
        AnyToken.build(3, leave_out)
