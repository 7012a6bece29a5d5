"""SEARNN on Hugging Face models: the engine of recurrent models, unchanged, equals its twin."""

import random

import pytest
import torch

from freerun.methods import Clock
from freerun.references import DEFAULT_REFERENCES
from tests.helpers import searnn
from tests.methods.test_searnn_twin import (
    CLOCK,
    FREE,
    any_settings,
    check_loss,
    check_search,
)
from tests.models.models import text_batch, tiny_adapted

POLICIES = [("gpt2", True), ("gpt2", False), ("bart", False)]
REFERENCES = ("copy", *(DEFAULT_REFERENCES[cost] for cost in FREE), "best_suffix_bleu")


@pytest.fixture(params=POLICIES, ids=lambda kind: "-".join([kind[0]] + ["own"] * (not kind[1])))
def policy(request):
    name, shared = request.param
    letters = "a" if shared else "abc"  # beside three that are special
    return tiny_adapted(name, shared=shared, letters=letters, attention="sdpa", limit=6)


def batch_of(policy, seed=0):
    """Sentences of different lengths, one of a single token."""
    return text_batch(policy, lengths=(4, 1, 3), targets=(5, 1, 3), seed=seed)


def check_any(policy, number):
    draw = random.Random(number)
    method = any_settings(draw, FREE, REFERENCES)
    batch, clock = batch_of(policy, number), Clock(draw.randrange(12), total=9, seed=number)
    check_search(method, policy, batch, clock)
    check_loss(method, policy, batch, clock, 1e-11)


@pytest.mark.sample(8)
@pytest.mark.parametrize("number", range(6))
def test_any_settings(policy, number):
    check_any(policy, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6, 100))
def test_any_settings_at_length(policy, number):
    check_any(policy, number)


@pytest.mark.parametrize("name", ["llama", "mistral", "t5"])
def test_other_architectures(name):
    policy = tiny_adapted(name, letters="a", attention="sdpa", limit=6)
    for number in range(3):
        draw = random.Random(number)
        method = any_settings(draw, FREE, REFERENCES)
        check_search(method, policy, batch_of(policy, number))
        check_loss(method, policy, batch_of(policy, number), tolerance=1e-5)


@pytest.mark.parametrize("name", ["llama", "mistral", "t5", "bart"])
def test_costs_are_without_dropout_and_checkpointing(name):
    """The same search while training; and its gradient takes one pass, with or without."""
    policy = tiny_adapted(name, shared=False, letters="abc", attention="sdpa", dropout=0.5)
    method, batch = searnn(cost="edit_distance", roll_in="learned"), batch_of(policy)
    before = method.search(policy, batch, CLOCK)
    policy.train()
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    found = method.search(policy, batch, CLOCK)
    assert torch.equal(found.costs, before.costs)
    assert torch.equal(found.roll_in.tokens, before.roll_in.tokens)
    assert policy.training
    method.loss(policy, batch, CLOCK).total.backward()
    grown = [p.grad for p in policy.parameters() if p.requires_grad and p.grad is not None]
    assert any(bool(gradient.any()) for gradient in grown)
