"""Methods on the costs of own samples, on Hugging Face models."""

import pytest
import torch

from freerun.methods import MIXER, MRT, Clock, Reinforce
from freerun.methods.samples import draw_samples
from tests.methods.enumeration import tokens_of
from tests.models.models import plain_scores, text_batch, tiny_adapted

CLOCK = Clock(3, total=9, seed=1)
COSTS = {"cost": "edit_distance", "warm_up": 0.0}
METHODS = [
    MRT(**COSTS, samples=3, kappa=0.5),
    Reinforce(**COSTS, samples=3),
    MIXER(**COSTS, samples=2, anneal=0.6),
]
POLICIES = [("gpt2", True), ("llama", True), ("bart", False), ("t5", True)]


@pytest.fixture(params=POLICIES, ids=lambda kind: kind[0])
def policy(request):
    name, shared = request.param
    return tiny_adapted(name, shared=shared, letters="abc", dropout=0.3)


def test_log_probabilities_are_those_of_the_plain_model(policy):
    batch = text_batch(policy)
    drawn = draw_samples(policy, batch, 2, CLOCK, stretch=1.5)
    with torch.no_grad():
        found = drawn.log_probs(drawn.read(policy, batch)).sum(1)
        for row, tokens in enumerate(tokens_of(drawn)):
            source = batch.source.select(drawn.rows[row : row + 1])
            written = torch.tensor(tokens)
            inputs = torch.tensor([[policy.vocabulary.bos, *tokens[:-1]]])
            scores = plain_scores(policy, source, inputs).log_softmax(-1)
            expected = scores.gather(1, written[:, None]).sum()
            torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_they_train_with_dropout_and_checkpointing(policy, method):
    """The same samples as without, and every layer has a gradient."""
    batch, modules = text_batch(policy), method.build_modules(policy)
    before = method.loss(policy, batch, CLOCK, modules)
    policy.train()
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    outcome = method.loss(policy, batch, CLOCK, modules)
    outcome.total.backward()
    if "cost" in outcome.metrics:
        assert torch.equal(outcome.metrics["cost"], before.metrics["cost"])
    assert policy.training
    grown = [p.grad for p in policy.parameters() if p.requires_grad and p.grad is not None]
    assert any(bool(gradient.any()) for gradient in grown)
    assert all(bool(gradient.isfinite().all()) for gradient in grown)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_in_bfloat16_losses_are_finite_and_in_single_precision(method):
    policy = tiny_adapted("gpt2", letters="abc")
    batch, modules = text_batch(policy), method.build_modules(policy)
    exact = method.loss(policy, batch, CLOCK, modules)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = method.loss(policy, batch, CLOCK, modules)
    assert outcome.total.dtype == exact.total.dtype
    outcome.total.backward()
    assert all(p.grad.isfinite().all() for p in policy.parameters() if p.grad is not None)
    assert outcome.total.item() == pytest.approx(exact.total.item(), rel=0.5)
