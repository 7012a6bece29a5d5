"""Maximum likelihood: against every prefix forced from scratch, and finite differences."""

import pytest
import torch

from freerun.methods import MLE, Clock
from tests.helpers import close, log_prob, single, tiny_batch, tiny_policy
from tests.methods.checks import gradcheck_loss
from tests.twins import twin_score_relaxed


@pytest.fixture(params=[True, False], ids=["eos", "fixed"])
def policy(request):
    return tiny_policy(4, eos=request.param, attention="general", input_feeding=True)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy, targets=(2, 4, 1, 3))


def test_the_loss_is_minus_the_log_likelihood(policy, batch):
    outcome = MLE().loss(policy, batch, Clock())
    total = 0.0
    for row in range(4):
        one = single(batch, row)
        total -= log_prob(policy, one.source, one.target[0].tolist())
    assert float(outcome.total.detach()) == pytest.approx(total, abs=1e-12)
    assert int(outcome.count) == int(batch.mask.sum())
    assert outcome.metrics == {}


def test_smoothing_takes_from_the_target_for_all(policy, batch):
    scores = twin_score_relaxed(policy, batch, torch.zeros_like(batch.mask), None).log_softmax(-1)
    hit = scores.gather(-1, batch.target[batch.mask][:, None]).sum()
    expected = -0.8 * hit - 0.2 * scores.mean(-1).sum()
    close(MLE(label_smoothing=0.2).loss(policy, batch, Clock()).total, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_finite_differences(smoothing):
    gradcheck_loss(MLE(label_smoothing=smoothing), eos=True, attention="additive")


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range(smoothing):
    message = rf"^label_smoothing is {smoothing}; it must lie in \[0, 1\)$"
    with pytest.raises(ValueError, match=message):
        MLE(label_smoothing=smoothing)
