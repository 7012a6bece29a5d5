"""Costs of Python functions, and the check of anyone's own."""

import math
import re
import warnings

import numpy as np
import pytest
import torch

from freerun.costs import PythonCost, check_costs
from tests.costs.pairs import columns
from tests.helpers import raises

ROWS = [([1, 2], [1, 3, 4]), ([], [5]), ([6], [])]


def quiet(cost):
    """The cost after its warning."""
    with pytest.warns(UserWarning, match="one pair at a time"):
        cost(*columns([([], [])]))
    return cost


def difference(hypothesis, reference):
    return abs(len(hypothesis) - len(reference))


def test_tokens_are_given_without_what_is_beyond_the_end():
    seen = []
    cost = quiet(PythonCost(lambda own, true: seen.append((own, true)) or 0.5))
    seen.clear()
    values = cost(*columns(ROWS, extra=2))
    assert seen == ROWS
    assert values.dtype == torch.float64
    assert values.tolist() == [0.5, 0.5, 0.5]


def test_texts_are_written_by_the_given_function():
    cost = quiet(
        PythonCost(
            lambda own, true: float(f"{len(own)}.{len(true)}"),
            on="text",
            write=lambda tokens: " ".join(f"w{token}" for token in tokens),
        )
    )
    assert cost(*columns(ROWS)).tolist() == [5.8, 0.2, 2.0]


def test_it_warns_once():
    cost = PythonCost(difference)
    with pytest.warns(UserWarning, match="difference") as caught:
        cost(*columns(ROWS))
    assert re.fullmatch(
        r"the cost difference is a Python function, called for one pair at a time: [\d,]+ pairs a "
        r"second so far, where a batched cost such as freerun\.costs\.bleu makes 100,000 or more",
        str(caught[0].message),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cost(*columns(ROWS)).tolist() == [1, 1, 1]


def test_no_rows_are_no_reason_to_warn():
    none = torch.zeros(0, 3, dtype=torch.int64)
    empty = torch.zeros(0, dtype=torch.int64)
    assert PythonCost(difference)(none, empty, none, empty).shape == (0,)


@pytest.mark.parametrize("value", [1, 0.25, True, np.float32(0.5), np.int64(3), torch.tensor(0.75)])
def test_any_number_will_do(value):
    cost = PythonCost(lambda own, true: value)
    with pytest.warns(UserWarning, match="one pair"):
        assert cost(*columns(ROWS[:1])).tolist() == [float(value)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (None, "None"),
        ("0.5", "'0.5'"),
        (torch.tensor(math.nan), "nan"),
        ([1.0], "[1.0]"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_what_is_no_finite_number_is_named_with_its_row(value, shown):
    cost = PythonCost(lambda own, true: value if true == [5] else 0, name="mine")
    with raises(ValueError, f"mine gave {shown} for row 1; a cost is a finite number"):
        cost(*columns(ROWS))


def test_names_come_from_the_function():
    assert PythonCost(difference).name == "difference"
    assert PythonCost(difference, name="wer").name == "wer"
    assert repr(PythonCost(difference)) == "PythonCost('difference', on='tokens')"
    assert repr(PythonCost(difference, "text", str)) == "PythonCost('difference', on='text')"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on": "words"}, "on is 'words'; a cost is computed on 'tokens' or on 'text'"),
        ({"on": "text"}, "a cost on text needs write, which converts token ids to text"),
        ({"write": str}, "write converts token ids to text, but this cost is on tokens"),
    ],
)
def test_options_that_cannot_be_honoured_are_errors(options, message, unchecked):
    with pytest.raises(ValueError, match=re.escape(message)):
        PythonCost(difference, **options)


def test_checked_costs_are_those_that_were_given():
    assert check_costs(torch.tensor([1, 2]), 2).tolist() == [1, 2]
    assert check_costs(torch.tensor([0.5]), 1).dtype == torch.float64


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (-math.inf, "-inf")])
def test_checked_costs_name_the_first_row_that_is_not_finite(value, shown):
    with raises(ValueError, f"mine gave {shown} for row 2; a cost is a finite number"):
        check_costs(torch.tensor([0, 1, value, math.nan]), 4, "mine")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (torch.tensor(0.5), r"a Tensor of shape \(\)"),
        (torch.zeros(2, 1), r"a Tensor of shape \(2, 1\)"),
        (torch.zeros(3), r"a Tensor of shape \(3,\)"),
        (0.5, "a float"),
        ([0.5, 0.5], "a list"),
    ],
)
def test_costs_that_are_not_one_for_each_row(given, what):
    """A mean, above all, which would make all tokens equal."""
    message = f"^mine gave {what} for 2 rows; it must be a tensor of shape \\(2,\\), a number for"
    with pytest.raises(ValueError, match=message):
        check_costs(given, 2, "mine")
