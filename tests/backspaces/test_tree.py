"""Trees and remains against a state machine in plain Python, and by hand."""

import itertools
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.backspaces import apply_backspaces, build_tree, mark_withdrawn
from tests.backspaces.machine import (
    BACKSPACE,
    BOS,
    EOS,
    PAD,
    batches,
    run,
    withdrawn_of,
)
from tests.backspaces.padding import padded

JUNK = st.sampled_from([PAD, BACKSPACE, EOS, 0, 10**9])
"""What may stand in padding, where nothing may look at it."""


def tree(actions, mask, backspace=BACKSPACE):
    return build_tree(actions, mask, bos=BOS, pad=PAD, backspace=backspace)


def check(rows, actions, mask):
    """The tree and the remains of every row are those of the machine."""
    found = tree(actions, mask)
    tokens, there = apply_backspaces(actions, mask, pad=PAD, backspace=BACKSPACE)
    gone = mark_withdrawn(actions, mask, backspace=BACKSPACE)
    machines = [run(row) for row in rows]
    assert found.tokens.shape == (len(rows), max(len(m.written) for m, _ in machines))
    assert tokens.shape == (len(rows), max(len(m.text) for m, _ in machines))
    for i, (row, (machine, tops)) in enumerate(zip(rows, machines, strict=True)):
        size, stands = len(machine.written), len(machine.text)
        assert list(zip(found.tokens[i].tolist(), found.parents[i].tolist(), strict=True)) == (
            machine.written + [(PAD, 0)] * (found.tokens.shape[1] - size)
        )
        assert found.mask[i].tolist() == [j < size for j in range(found.mask.shape[1])]
        assert found.tops[i].tolist() == tops + tops[-1:] * (mask.shape[1] - len(row))
        assert tokens[i].tolist() == machine.text + [PAD] * (tokens.shape[1] - stands)
        assert there[i].tolist() == [j < stands for j in range(there.shape[1])]
        assert gone[i, : len(row)].tolist() == withdrawn_of(row)
        assert not gone[i, len(row) :].any()


@given(batches, st.integers(0, 3), JUNK)
def test_they_are_those_of_the_machine(rows, more, junk):
    actions, mask = padded(rows, junk, more=more)
    check(rows, actions, mask)


def test_all_sequences_of_six_actions():
    """Two letters and backspace."""
    rows = [list(row) for row in itertools.product([0, 1, BACKSPACE], repeat=6)]
    check(rows, *padded(rows, 0))


def test_by_hand():
    """At the prompt ⌫; a b ⌫ b ⌫ ⌫ c eos: b is typed twice, and reads a row each time."""
    a, b, c, back = 0, 1, 2, BACKSPACE
    actions = torch.tensor([[back, a, b, back, b, back, back, c, EOS]])
    found = tree(actions, torch.ones_like(actions, dtype=torch.bool))
    assert found.tokens.tolist() == [[BOS, a, b, b, c, EOS]]
    assert found.parents.tolist() == [[-1, 0, 1, 1, 0, 4]]
    assert found.tops.tolist() == [[0, 0, 1, 2, 1, 3, 1, 0, 4, 5]]
    assert found.mask.all()
    tokens, _ = apply_backspaces(
        actions, torch.ones_like(actions, dtype=torch.bool), pad=PAD, backspace=back
    )
    assert tokens.tolist() == [[c, EOS]]


def test_without_a_backspace_a_tree_is_a_chain():
    """And an action that would be one is a token."""
    actions, mask = padded([[0, BACKSPACE, EOS], [1]], 7)
    found = tree(actions, mask, backspace=None)
    assert found.tokens.tolist() == [[BOS, 0, BACKSPACE, EOS], [BOS, 1, PAD, PAD]]
    assert found.parents.tolist() == [[-1, 0, 1, 2], [-1, 0, 0, 0]]
    assert found.tops.tolist() == [[0, 1, 2, 3], [0, 1, 1, 1]]
    tokens, there = apply_backspaces(actions, mask, pad=PAD, backspace=None)
    assert tokens.tolist() == [[0, BACKSPACE, EOS], [1, PAD, PAD]]
    assert torch.equal(there, mask)
    assert not mark_withdrawn(actions, mask, backspace=None).any()


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0)])
def test_nothing_to_do(shape):
    actions, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    found = tree(actions, mask)
    assert found.tokens.tolist() == [[BOS]] * shape[0]
    assert found.tops.shape == (shape[0], shape[1] + 1)
    tokens, there = apply_backspaces(actions, mask, pad=PAD, backspace=BACKSPACE)
    assert tokens.shape == there.shape == (shape[0], 0)


def test_large_batches_take_milliseconds():
    """64 rows of 1,024 actions: no loop over them, which takes a second."""
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(5, (64, 1024), generator=generator)
    mask = torch.ones_like(actions, dtype=torch.bool)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tree(actions, mask)
        times = []
        for _ in range(5):
            begin = time.process_time()
            tree(actions, mask)
            times.append(time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
    assert min(times) < 0.05
