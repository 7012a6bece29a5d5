"""SEARNN on Hugging Face models: the engine of recurrent models, unchanged, equals its twin."""

import random

import pytest
import torch

from freerun.batch import Batch
from freerun.methods import Clock
from freerun.references import DEFAULT_REFERENCES
from tests.helpers import close, gradients, padded, searnn, single
from tests.methods.test_searnn_twin import (
    CLOCK,
    FREE,
    ROLL_INS,
    ROLL_OUTS,
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


@pytest.mark.parametrize("roll_out", ROLL_OUTS)
@pytest.mark.parametrize("roll_in", ROLL_INS)
def test_who_writes(policy, roll_in, roll_out):
    """Costs are those of roll-outs that are read from the start, one token at a time."""
    focus = {"focus": 1, "focus_end": 4} if roll_out == "focused" else {}
    method = searnn(roll_in=roll_in, roll_out=roll_out, cost="edit_distance", **focus)
    check_search(method, policy, batch_of(policy))


def check_any(policy, number):
    draw = random.Random(number)
    method = any_settings(draw, FREE, REFERENCES)
    batch, clock = batch_of(policy, number), Clock(draw.randrange(12), total=9, seed=number)
    check_search(method, policy, batch, clock)
    check_loss(method, policy, batch, clock, 1e-11)


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


@pytest.mark.parametrize("roll_in", ["learned", "mixed_cells"])
def test_a_batch_is_the_sum_of_its_rows(policy, roll_in):
    """Whatever its order, its padding and what that is made of; and however much runs at once."""
    settings = {"roll_in": roll_in, "roll_out": "mixed", "cost": "edit_distance"}
    method, few = searnn(**settings), searnn(**settings, at_once=4)
    batch = batch_of(policy)
    whole = method.loss(policy, batch, CLOCK).total
    gradient = gradients(policy, whole)
    most = max(float(g.abs().max()) for g in gradient.values())
    junk = Batch(batch.ids, batch.source, batch.target.where(batch.mask, 1), batch.mask)
    others = [
        sum(method.loss(policy, single(batch, row), CLOCK).total for row in range(3)),
        method.loss(policy, batch.select(torch.tensor([2, 0, 1])), CLOCK).total,
        method.loss(policy, padded(batch, 0), CLOCK).total,
        method.loss(policy, padded(batch, policy.vocabulary.eos), CLOCK).total,
        method.loss(policy, junk, CLOCK).total,
        few.loss(policy, batch, CLOCK).total,
    ]
    for other in others:
        close(other, whole, 1e-10)
        close(gradients(policy, other), gradient, 1e-11 * most)


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
