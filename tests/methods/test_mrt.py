"""Minimum risk training: its risk by enumeration, its limits, and its defects elsewhere."""

import math

import pytest
import torch

from freerun.costs import edit_distance
from freerun.losses import minimum_risk
from freerun.methods import MLE, MRT, Clock
from freerun.methods.mrt import find_different
from freerun.methods.samples import Samples, draw_samples
from tests.helpers import close, gradients, raises, single, tiny_batch, tiny_policy
from tests.methods.checks import gradcheck_loss
from tests.methods.enumeration import (
    all_outputs,
    costs_of,
    finite_difference,
    log_probs_of,
    tiny_example,
    tokens_of,
)

CLOCK = Clock(2, total=9, seed=3)


def mrt(**settings):
    return MRT(**{"cost": "edit_distance", "warm_up": 0.0, **settings})


@pytest.mark.parametrize("kappa", [0.005, 0.3, 1.0, 4.0])
def test_the_risk_is_that_of_the_different_samples(kappa):
    """Against a plain loop over sets, each output forced alone."""
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), targets=(5, 1, 3, 2))
    method = mrt(samples=6, kappa=kappa)
    drawn = draw_samples(policy, batch, 6, CLOCK, stretch=method.stretch)
    expected, sizes = 0.0, []
    for row in range(4):
        one = single(batch, row)
        target = tuple(one.target[0].tolist())
        different = sorted({target, *tokens_of(drawn)[6 * row : 6 * row + 6]})
        tokens = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, different)), True)
        mask = torch.arange(tokens.shape[1]) < torch.tensor(list(map(len, different)))[:, None]
        found = Samples(torch.zeros(len(different), dtype=torch.long), tokens, mask)
        weights = (kappa * log_probs_of(found, policy, one)).softmax(0)
        expected = expected + (weights * costs_of(found, policy, one)).sum()
        sizes.append(len(different))
    outcome = method.loss(policy, batch, CLOCK)
    close(outcome.total, expected)
    close(gradients(policy, outcome.total), gradients(policy, expected))
    assert int(outcome.count) == 11
    assert 1 < min(sizes) < max(sizes) < 7
    weighted = sum(size * int(n) for size, n in zip(sizes, batch.lengths, strict=True)) / 11
    assert outcome.metrics["different"].item() == pytest.approx(weighted)


def test_with_all_outputs_it_is_the_expected_cost():
    """κ = 1, and so many samples that none is missing; its gradient by finite differences."""
    policy, one = tiny_example(length=2)
    drawn = draw_samples(policy, one, 200, CLOCK, stretch=1.5)
    assert len(set(tokens_of(drawn))) == len(all_outputs(policy, one, 2).rows)
    outcome = mrt(samples=200, kappa=1.0).loss(policy, one, CLOCK)
    every = all_outputs(policy, one, 2)
    value = (log_probs_of(every, policy, one).exp() * costs_of(every, policy, one)).sum()
    close(outcome.total, value)
    found = gradients(policy, outcome.total)
    direction = {name: torch.ones_like(gradient) for name, gradient in found.items()}

    def risk(moved):
        outputs = all_outputs(moved, one, 2)
        return (log_probs_of(outputs, moved, one).exp() * costs_of(outputs, moved, one)).sum()

    slope = finite_difference(policy, risk, direction)
    assert sum(float(gradient.sum()) for gradient in found.values()) == pytest.approx(slope, 1e-6)
    assert abs(slope) > 1e-4


def test_a_small_kappa_makes_it_the_mean_and_a_large_one_the_most_probable():
    log_probs = torch.tensor([[-3.0, -1.0, -2.0, -9.0]]).double().requires_grad_()
    costs = torch.tensor([[0.0, 3.0, 1.0, 7.0]]).double()
    mask = torch.tensor([[True, True, True, False]])
    mean = minimum_risk(log_probs, costs, mask, kappa=1e-12)
    close(mean, torch.tensor([4 / 3], dtype=torch.float64), 1e-9)
    (gradient,) = torch.autograd.grad(mean.sum(), log_probs)
    close(gradient, torch.zeros(1, 4).double(), 1e-11)
    close(minimum_risk(log_probs, costs, mask, kappa=500.0), torch.tensor([3.0]).double())


def test_the_gradient_of_improbable_outputs_does_not_vanish():
    """As in code that takes a softmax of probabilities: exp(-900) and exp(-905) are both 0."""
    log_probs = torch.tensor([[-900.0, -905.0]], requires_grad=True)
    risk = minimum_risk(log_probs, torch.tensor([[0.0, 1.0]]), torch.ones(1, 2).bool(), kappa=1.0)
    weight = 1 / (1 + math.exp(5))
    assert risk.item() == pytest.approx(weight, rel=1e-4)
    (gradient,) = torch.autograd.grad(risk.sum(), log_probs)
    assert gradient[0, 1].item() == pytest.approx(weight * (1 - weight), rel=1e-4)


def test_a_row_that_is_not_a_number_changes_no_other():
    log_probs = torch.tensor([[-3.0, -1.0], [math.nan, -2.0]], requires_grad=True)
    risks = minimum_risk(log_probs, torch.eye(2), torch.ones(2, 2).bool(), kappa=1.0)
    (gradient,) = torch.autograd.grad(risks[0], log_probs)
    assert risks.isnan().tolist() == [False, True]
    assert gradient[0].isfinite().all()


def test_equal_outputs_count_once_whatever_pads_them():
    """A sample may be the target, or another sample; the same tokens in another example are not."""
    tokens = torch.tensor([[0, 1, 2, 7], [0, 1, 2, 0], [1, 0, 0, 0], [0, 2, 1, 1]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]).bool()
    drawn = Samples(torch.tensor([0, 0, 1, 1]), tokens, mask)
    policy = tiny_policy(4)
    batch = tiny_batch(policy, lengths=(2, 2), targets=(2, 2))
    target = torch.tensor([[3, 3], [1, 9]])
    batch = type(batch)(batch.ids, batch.source, target, torch.tensor([[1, 1], [1, 0]]).bool())
    found, first = find_different(drawn, batch)
    assert first.tolist() == [[True, True, False], [True, False, True]]
    assert tokens_of(found) == [(3, 3), (0, 1, 2), (1,), (0, 2)]
    assert found.rows.tolist() == [0, 0, 1, 1]
    assert found.mask.shape == (4, 3)


def test_it_is_maximum_likelihood_first():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    method = mrt(warm_up=0.5)
    expected = MLE().loss(policy, batch, Clock(4, 9))
    assert torch.equal(method.loss(policy, batch, Clock(4, 9)).total, expected.total)
    assert "risk" in method.loss(policy, batch, Clock(5, 9)).metrics


def test_the_cost_may_be_a_function():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)

    def doubled(*pairs):
        return 2 * edit_distance(*pairs)

    one, two = (
        mrt(cost=cost).loss(policy, batch, CLOCK).total for cost in ("edit_distance", doubled)
    )
    close(two, 2 * one)


def test_gradients_are_those_of_finite_differences():
    """With the samples held: those of unmoved parameters, as |A| and the step are small."""
    gradcheck_loss(mrt(samples=3, kappa=0.7))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples is 0; it must be at least 1"),
        ({"kappa": 0.0}, "kappa is 0.0; it must be finite and above 0"),
        ({"warm_up": 1.0}, "warm_up is 1.0; it must lie in [0, 1)"),
        ({"stretch": 0.5}, "stretch is 0.5; it must be at least 1"),
        ({"cost": "edits"}, "cost is 'edits'; it must be one of hamming, hamming_total, "
         "edit_distance, bleu, bleu_1, gleu, chunk_f1, a metric of texts such as wer, or the "
         "address of a function, package.module:function"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(settings, message):
    with raises(ValueError, message):
        MRT(**settings)


def test_a_cost_that_is_missing_or_does_not_match():
    policy = tiny_policy(4)
    message = "MRT.cost is None: choose a cost; training on a task uses that of the task"
    with raises(ValueError, message):
        MRT().loss(policy, tiny_batch(policy), CLOCK)
    message = (
        "cost=hamming compares equal lengths, but these outputs end in eos, at any length: use "
        "edit_distance"
    )
    with raises(ValueError, message):
        MRT(cost="hamming").check(policy.vocabulary)
