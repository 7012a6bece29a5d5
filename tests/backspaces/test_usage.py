"""Counts of how backspaces were used, against plain Python and by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.backspaces import count_usage
from tests.backspaces.machine import BACKSPACE, EOS, PAD, batches, sequences, usage_of
from tests.backspaces.padding import padded

NAMES = ("actions", "backspaces", "withdrawals", "replaced", "rewritten", "right")


@given(batches, st.data(), st.sampled_from([PAD, BACKSPACE, 0]))
def test_counts_are_those_of_the_machine(rows, data, junk):
    references = [data.draw(sequences) for _ in rows]
    actions, mask = padded(rows, junk, more=1)
    found = count_usage(actions, mask, backspace=BACKSPACE, references=padded(references, junk))
    counts = torch.stack([getattr(found, name) for name in NAMES], 1)
    expected = [usage_of(row, ref) for row, ref in zip(rows, references, strict=True)]
    assert counts.tolist() == expected


def test_by_hand():
    """a ⌫ b: rewritten, rightly. c ⌫ c: not rewritten. a b ⌫ ⌫ c: one replaced, wrongly."""
    back = BACKSPACE
    rows = [[0, back, 1], [2, back, 2], [0, 1, back, back, 2], [back, back, EOS]]
    references = padded([[1, EOS], [2, EOS], [1, EOS], [EOS]], PAD)
    found = count_usage(*padded(rows, PAD), backspace=back, references=references)
    assert found.actions.tolist() == [3, 3, 5, 3]
    assert found.backspaces.tolist() == [1, 1, 2, 2]
    assert found.withdrawals.tolist() == [1, 1, 2, 0]
    assert found.replaced.tolist() == [1, 1, 1, 0]
    assert found.rewritten.tolist() == [1, 0, 1, 0]
    assert found.right.tolist() == [1, 0, 0, 0]


def test_without_references_nothing_is_right_or_wrong():
    found = count_usage(*padded([[0, BACKSPACE, 1]], PAD), backspace=BACKSPACE)
    assert found.rewritten.tolist() == [1]
    assert found.right is None


def test_no_rows_and_no_actions():
    empty = torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool)
    found = count_usage(*empty, backspace=BACKSPACE, references=empty)
    assert [getattr(found, name).tolist() for name in NAMES] == [[0, 0]] * 6
