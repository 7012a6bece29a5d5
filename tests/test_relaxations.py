"""Relaxed choices: hand numbers, limits and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.randomness import gumbel
from freerun.relaxations import soft_argmax, soft_sample, straight_through
from tests.helpers import chi_square, close

LOG = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], dtype=torch.float64).log()


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_soft_argmax_by_hand():
    close(soft_argmax(LOG, 1.0), LOG.exp())
    squares = rows([25 / 38, 9 / 38, 4 / 38], [1 / 66, 64 / 66, 1 / 66])
    close(soft_argmax(LOG, 2.0), squares)
    close(soft_argmax(LOG + 7, 2.0), squares)  # scores need not be normalised
    close(soft_argmax(LOG, 2.0, top_k=2), rows([25 / 34, 9 / 34, 0], [1 / 65, 64 / 65, 0]), 1e-12)
    close(soft_argmax(LOG, 2.0, top_k=1), rows([1, 0, 0], [0, 1, 0]))
    for top_k in (3, 4):
        close(soft_argmax(LOG, 2.0, top_k=top_k), squares)


def test_soft_sample_by_hand():
    """α multiplies the noise as well as the scores."""
    noise = rows([0.0, 1.0, 0.0], [0.0, 0.0, 0.0]) * torch.log(rows([2.0]))
    close(soft_sample(LOG, noise, 1.0), rows([5 / 13, 6 / 13, 2 / 13], [0.1, 0.8, 0.1]))
    close(soft_sample(LOG, noise, 2.0)[0], rows(25 / 65, 36 / 65, 4 / 65))
    close(soft_sample(LOG, noise, 2.0, top_k=1)[0], rows(0, 1, 0))
    close(soft_sample(LOG, noise, 2.0, top_k=2)[0], rows(25 / 61, 36 / 61, 0))


def test_straight_through_is_one_hot_to_the_last_bit():
    weights = torch.rand(1000, 7, dtype=torch.float32).softmax(-1)
    found = straight_through(weights)
    assert torch.equal(found, torch.nn.functional.one_hot(weights.argmax(-1), 7).float())


def test_straight_through_has_the_gradient_of_its_weights():
    scores = LOG.clone().requires_grad_()
    direction = rows([1.0, -2.0, 0.5], [3.0, 1.0, -1.0])
    soft, hard = soft_argmax(scores, 2.0), straight_through(soft_argmax(scores, 2.0))
    (expected,) = torch.autograd.grad((soft * direction).sum(), scores)
    (found,) = torch.autograd.grad((hard * direction).sum(), scores)
    assert torch.equal(found, expected)


@given(st.integers(0, 10**6), st.floats(0.01, 50), st.integers(1, 6))
def test_weights_are_a_distribution_over_the_best(seed, alpha, top_k):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    weights = soft_argmax(scores, alpha, top_k=top_k)
    close(weights.sum(-1), torch.ones(4, dtype=torch.float64))
    assert weights.min() >= 0
    assert torch.equal(weights.argmax(-1), scores.argmax(-1))
    kept = scores.argsort(-1, descending=True)[:, :top_k].sort(-1).values
    assert torch.equal((weights > 0).sum(-1), torch.full((4,), min(top_k, 5)))
    close(weights.gather(-1, kept).sum(-1), torch.ones(4, dtype=torch.float64))


def test_large_alpha_is_the_argmax():
    assert torch.equal(soft_argmax(LOG, 1e6), rows([1, 0, 0], [0, 1, 0]))
    noise = gumbel(0, torch.arange(2)[:, None], torch.arange(3), dtype=torch.float64)
    hard = torch.nn.functional.one_hot((LOG + noise).argmax(-1), 3).double()
    assert torch.equal(soft_sample(LOG, noise, 1e6), hard)


def test_large_alpha_samples():
    noise = gumbel(0, torch.arange(20_000)[:, None], torch.arange(3), dtype=torch.float64)
    counts = soft_sample(LOG[:1].expand(20_000, 3), noise, 1e9).sum(0)
    assert chi_square(counts.round(), LOG[0].exp() * 20_000) > 0.01


@pytest.mark.parametrize("top_k", [None, 2])
def test_gradients(top_k):
    scores = rows([0.5, -1.0, 0.2], [1.0, 0.3, -0.7]).requires_grad_()
    noise = rows([0.3, 0.9, -0.4], [0.1, 0.0, 0.4]).requires_grad_()

    def sampled(scores, noise):
        return soft_sample(scores, noise, 1.7, top_k=top_k)

    assert torch.autograd.gradcheck(lambda s: soft_argmax(s, 1.7, top_k=top_k), scores)
    assert torch.autograd.gradcheck(sampled, (scores, noise))


def test_no_token_is_no_choice():
    for relax in (soft_argmax, lambda *a, **k: soft_sample(LOG, *a, **k)):
        with pytest.raises(ValueError, match=r"^top_k is 0; it must be at least 1$"):
            relax(LOG, 1.0, top_k=0)


def test_options_are_named():
    """α cannot be taken for the number of tokens kept."""
    with pytest.raises(TypeError):
        soft_argmax(LOG, 1.0, 2)
    with pytest.raises(TypeError):
        soft_sample(LOG, LOG, 1.0, 2)
