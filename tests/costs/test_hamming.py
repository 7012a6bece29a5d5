"""The Hamming cost by hand."""

import pytest
import torch

from freerun.costs import hamming, hamming_total
from tests.costs.pairs import columns
from tests.helpers import raises

ROWS = [([1, 2, 3], [1, 0, 0]), ([1, 2], [1, 0]), ([], []), ([4], [4])]


def test_it_counts_the_cells_that_differ():
    assert hamming_total(*columns(ROWS)).tolist() == [2, 1, 0, 0]
    assert hamming(*columns(ROWS)).tolist() == [2 / 3, 1 / 2, 0, 0]


def test_an_unknown_token_is_wrong_wherever_it_is_wanted():
    rows = [([1, 2, 3], [1, 2, 3]), ([2, 2], [1, 2]), ([2], [1])]
    assert hamming_total(*columns(rows), unknown=2).tolist() == [1, 2, 1]


def test_sides_of_different_widths_are_compared_where_both_have_tokens():
    own, lengths = torch.tensor([[1, 2, 9, 9]]), torch.tensor([2])
    assert hamming_total(own, lengths, torch.tensor([[1, 3]]), lengths).tolist() == [1]
    assert hamming_total(torch.tensor([[1, 3]]), lengths, own, lengths).tolist() == [1]


@pytest.mark.parametrize("cost", [hamming, hamming_total])
def test_lengths_that_differ_are_an_error(cost):
    message = (
        "row 1 has 3 tokens and its reference 2; the Hamming cost compares equal lengths: use "
        "edit_distance if they may differ"
    )
    with raises(ValueError, message):
        cost(*columns([([1, 2], [1, 2]), ([1, 2, 3], [1, 2])]))
