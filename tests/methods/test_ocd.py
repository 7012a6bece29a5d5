"""Optimal completion distillation: by enumeration, and as a setting of SEARNN."""

import itertools
from functools import lru_cache

import pytest
import torch

from freerun.costs import levenshtein
from freerun.methods import OCD, Clock
from freerun.methods.ocd import find_best_prefixes
from freerun.methods.samples import draw_samples, write_greedily
from freerun.references import mark_next_tokens
from tests.helpers import (
    close,
    gradients,
    padded,
    raises,
    searnn,
    sequences,
    single,
    tiny_batch,
    tiny_policy,
)
from tests.methods.checks import gradcheck_loss
from tests.methods.enumeration import all_outputs, tokens_of
from tests.models.models import text_batch, tiny_adapted
from tests.twins import scores_after

CLOCK = Clock(2, total=9, seed=3)


def distance(hypothesis, reference):
    sides = [torch.tensor([[*side, 0]]) for side in (hypothesis, reference)]
    lengths = [torch.tensor([len(side)]) for side in (hypothesis, reference)]
    return int(levenshtein(sides[0], lengths[0], sides[1], lengths[1]))


@lru_cache
def optimal_by_enumeration(prefix, reference, actions, eos):
    """The next tokens after which some completion, of up to 4 tokens, has the least distance."""
    least = {}
    for length in range(5):
        for rest in itertools.product(range(actions - 1), repeat=length):
            first = rest[0] if rest else eos
            found = distance((*prefix, *rest), reference)
            least[first] = min(found, least.get(first, found))
    return {token for token, value in least.items() if value == min(least.values())}


@pytest.mark.parametrize("reference", [(0, 1), (1, 1, 0), (0,)])
def test_optimal_tokens_are_those_of_enumeration(reference):
    """After every prefix of every output of up to 3 tokens."""
    policy = tiny_policy(3, limit=3)
    eos = policy.vocabulary.eos
    one = single(tiny_batch(policy, lengths=(2, 2), targets=(len(reference) + 1,) * 2), 0)
    one = type(one)(one.ids, one.source, torch.tensor([[*reference, eos]]), one.mask)
    outputs = all_outputs(policy, one)
    found = mark_next_tokens(*find_best_prefixes(outputs, one, policy.vocabulary), 3, eos)
    cells = iter(found.tolist())
    for tokens in tokens_of(outputs):
        for cell in range(len(tokens)):
            marked = {token for token, good in enumerate(next(cells)) if good}
            assert marked == optimal_by_enumeration(tokens[:cell], reference, 3, eos)
    assert next(cells, None) is None
    assert len(list(sequences(3, 3, eos))) == len(outputs.rows)


@pytest.mark.parametrize("feedback", ["greedy", "sample"])
def test_the_loss_is_the_mean_log_loss_of_optimal_tokens(feedback):
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), targets=(3, 1, 3, 2))
    own = write_greedily(policy, batch, stretch=1.5)
    if feedback == "sample":
        own = draw_samples(policy, batch, 1, CLOCK, stretch=1.5)
    expected, right, cells = 0.0, 0, 0
    for row, tokens in enumerate(tokens_of(own)):
        one = single(batch, row)
        inputs = [policy.vocabulary.bos, *tokens]
        for cell, token in enumerate(tokens):
            scores = scores_after(policy, one.source, torch.tensor([inputs[: cell + 1]]))
            reference = tuple(one.target[0, :-1].tolist())
            optimal = optimal_by_enumeration(tokens[:cell], reference, 4, policy.vocabulary.eos)
            expected -= float(scores.log_softmax(-1).detach()[sorted(optimal)].mean())
            right, cells = right + (token in optimal), cells + 1
    outcome = OCD(feedback=feedback).loss(policy, batch, CLOCK)
    assert outcome.total.item() == pytest.approx(expected)
    assert int(outcome.count) == 9
    assert outcome.metrics["optimal"].item() == pytest.approx(right / cells)


@pytest.mark.parametrize("number", range(4))
def test_it_is_searnn_with_reference_roll_outs_and_a_large_alpha(number):
    policy = tiny_policy(5, limit=9, seed=number)
    targets = (5, 1, 3, 2, 7)
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=targets, seed=number)
    method = searnn(roll_out="reference", cost="edit_distance", alpha=1e5)
    expected = method.loss(policy, batch, CLOCK)
    found = OCD(feedback="greedy").loss(policy, batch, CLOCK)
    close(found.total, expected.total)
    close(gradients(policy, found.total), gradients(policy, expected.total))
    assert int(found.count) == int(expected.count)


def test_neither_padding_nor_parts_change_the_loss():
    policy = tiny_policy(4, attention="additive", input_feeding=True)
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), targets=(5, 1, 3, 2))
    whole = OCD().loss(policy, batch, CLOCK).total
    close(OCD().loss(policy, padded(batch, policy.vocabulary.eos), CLOCK).total, whole)
    alone = [OCD().loss(policy, single(batch, row), CLOCK).total for row in range(4)]
    close(sum(alone), whole)


def test_gradients_are_those_of_finite_differences():
    gradcheck_loss(OCD())


@pytest.mark.parametrize(("name", "shared"), [("gpt2", True), ("bart", False), ("t5", True)])
def test_on_hugging_face_models_it_is_searnn_too(name, shared):
    policy = tiny_adapted(name, shared=shared, letters="abc")
    batch = text_batch(policy)
    method = searnn(roll_out="reference", cost="edit_distance", alpha=1e5)
    found, expected = (m.loss(policy, batch, CLOCK).total for m in (OCD(feedback="greedy"), method))
    close(found, expected, 1e-4)


def test_outputs_of_fixed_length_are_refused():
    policy = tiny_policy(4, eos=False)
    message = (
        "ocd needs outputs that end in eos; if they are as long as their sources, the optimal "
        "token is that of the target: use scheduled_sampling:schedule=constant,k=0"
    )
    with raises(ValueError, message):
        OCD().check(policy.vocabulary)
    with raises(ValueError, "stretch is 0.5; it must be at least 1"):
        OCD(stretch=0.5)
