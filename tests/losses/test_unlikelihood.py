"""Unlikelihood: hand numbers, brute force, and the defects that public code has."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.losses import repeated_ngrams, sequence_unlikelihood, token_unlikelihood
from tests.backspaces.padding import padded
from tests.helpers import close, raises

LOG = math.log
P = torch.tensor(
    [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.7, 0.1, 0.2], [0.25, 0.25, 0.5]], dtype=torch.float64
)
"""The probabilities of four cells."""
SCORES = P.log() + 1.5


def random_scores(count, actions=4, *, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, actions, generator=generator, dtype=torch.float64)


# Of tokens


def test_tokens_by_hand():
    """1 0 1 2: before the second 0, 1 is wrong; before the third 1, 0; before 2, both, once."""
    found = token_unlikelihood(SCORES, *padded([[1, 0, 1, 2]]))
    expected = -LOG(1 - 0.6) - LOG(1 - 0.7) - LOG(1 - 0.25) - LOG(1 - 0.25)
    assert float(found) == pytest.approx(expected, abs=1e-14)


def plainly(scores, rows):
    """Cell by cell."""
    total, cell = 0.0, 0
    for row in rows:
        for t, token in enumerate(row):
            probs = scores[cell].softmax(-1)
            total -= sum(torch.log(1 - probs[c]) for c in set(row[:t]) - {token})
            cell += 1
    return torch.as_tensor(total, dtype=torch.float64)


sequences = st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=4)


@given(sequences.filter(any), st.integers(0, 99), st.sampled_from([0, 3, -100, 10**6]))
def test_tokens_are_those_of_plain_python(rows, seed, junk):
    scores = random_scores(sum(map(len, rows)), seed=seed)
    close(token_unlikelihood(scores, *padded(rows, junk)), plainly(scores, rows))


def test_nothing_written():
    empty = torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool)
    assert float(token_unlikelihood(random_scores(0), *empty)) == 0
    assert float(sequence_unlikelihood(random_scores(0), torch.zeros(0, dtype=torch.long))) == 0


# Of sequences


def test_sequences_by_hand():
    found = sequence_unlikelihood(SCORES, torch.tensor([0, 1, 2, 2]))
    expected = -LOG(0.5) - LOG(0.4) - LOG(0.8) - LOG(0.5)
    assert float(found) == pytest.approx(expected, abs=1e-14)


def test_repeated_by_hand():
    """0 1 2 0 1 3 0 1: the pairs 0 1 come again twice; 2 0 only once."""
    row = [0, 1, 2, 0, 1, 3, 0, 1]
    for size, expected in (
        (1, [0, 0, 0, 1, 1, 0, 1, 1]),
        (2, [0, 0, 0, 1, 1, 0, 1, 1]),
        (3, [0] * 8),
    ):
        found = repeated_ngrams(*padded([row]), size=size)
        assert found.int().tolist() == [expected]


def test_repeats_may_overlap():
    found = repeated_ngrams(*padded([[1, 1, 1, 1, 1, 0]]))
    assert found.int().tolist() == [[0, 1, 1, 1, 1, 0]]


def test_the_last_ngram_counts():
    """The authors' code leaves it out."""
    found = repeated_ngrams(*padded([[0, 1, 0, 1]]), size=2)
    assert found.int().tolist() == [[0, 0, 1, 1]]


@given(sequences, st.integers(1, 5), st.sampled_from([0, 3, -100]), st.integers(0, 3))
def test_repeated_is_that_of_plain_python(rows, size, junk, more):
    tokens, mask = padded(rows, junk, more=more)
    expected = []
    for row in rows:
        marks, seen = [False] * tokens.shape[1], set()
        for start in range(len(row) - size + 1):
            gram = tuple(row[start : start + size])
            if gram in seen:
                marks[start : start + size] = [True] * size
            seen.add(gram)
        expected.append(marks)
    assert repeated_ngrams(tokens, mask, size=size).tolist() == expected


def test_a_size_that_is_none():
    with raises(ValueError, "size is 0; it must be at least 1"):
        repeated_ngrams(*padded([[0]]), size=0)


# Of both

LOSSES = {
    "token": lambda scores: token_unlikelihood(scores, *padded([[1, 0, 1, 2], [2, 3]])),
    "sequence": lambda scores: sequence_unlikelihood(scores, torch.tensor([1, 0, 1, 2, 2, 3])),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_gradcheck(name, scale):
    scores = random_scores(6, scale=scale).requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], scores)


def test_a_token_that_is_all_but_certain():
    """1 - p = 2·exp(-40) would be 0 in single precision; its gradient is p, not infinite."""
    scores = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    loss = sequence_unlikelihood(scores, torch.tensor([0]))
    assert loss.tolist() == pytest.approx(40 - LOG(2), abs=1e-5)
    (gradient,) = torch.autograd.grad(loss, scores)
    close(gradient, torch.tensor([[1.0, -0.5, -0.5]]), 1e-6)


def test_tokens_that_are_all_but_impossible():
    """log(1 - p) = -p, not 0; none where the score is minus infinity."""
    scores = torch.tensor([[0.0, -40.0, -math.inf]], dtype=torch.float64, requires_grad=True)
    loss = sequence_unlikelihood(scores.expand(2, 3), torch.tensor([1, 2]))
    assert loss.tolist() == pytest.approx(math.exp(-40), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert bool(gradient.isfinite().all())


def test_of_two_that_are_best_both_are_halves():
    scores = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    loss = sequence_unlikelihood(scores, torch.tensor([0, 1]))
    assert loss.tolist() == pytest.approx(2 * LOG(2))
    (gradient,) = torch.autograd.grad(loss, scores)
    close(gradient, torch.tensor([[0.5, -0.5], [-0.5, 0.5]], dtype=torch.float64))


@pytest.mark.kernels
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_to_single(name, dtype):
    scores = random_scores(6).to(dtype)
    found = LOSSES[name](scores)
    assert found.dtype == torch.float32
    assert torch.equal(found, LOSSES[name](scores.float()))
