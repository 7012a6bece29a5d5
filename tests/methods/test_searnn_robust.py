"""SEARNN at its edges: nothing written, nothing to choose, costs that are none, many tokens."""

import math

import pytest
import torch

from freerun.batch import Batch
from freerun.costs import PythonCost
from freerun.losses import CELL_LOSSES
from freerun.methods import Clock
from freerun.methods.searnn.search import Search
from freerun.vocabulary import Vocabulary
from tests.helpers import gradients, searnn, tiny_batch, tiny_policy
from tests.searnn_twin import twins

CLOCK = Clock(3, total=9, seed=1)
FREE = ("edit_distance", "bleu", "bleu_1", "gleu")


def finite(outcome, policy):
    found = gradients(policy, outcome.total).values()
    return bool(outcome.total.isfinite()) and all(bool(g.isfinite().all()) for g in found)


def writing(policy, token):
    """The policy, which now writes this token alone, whatever it reads."""
    with torch.no_grad():
        policy.output.weight.zero_()
        policy.output.bias.zero_()
        policy.output.bias[token] = 3
    return policy


def of_length(policy, *lengths):
    return tiny_batch(policy, lengths=(3,) * len(lengths), targets=lengths)


def loss_of(name, cost, **settings):
    settings |= {"alpha": 3.0} if name not in ("ll", "consistent") else {}
    return searnn(cell_loss=name, cost=cost, **settings)


# Sentences


@pytest.mark.parametrize("cost", FREE)
def test_empty_outputs_and_empty_targets(cost):
    """A target of eos alone, and a policy that ends at once."""
    policy = writing(tiny_policy(4, attention="general"), 3)
    batch = of_length(policy, 1, 1, 4)
    for roll_in in ("reference", "learned", "mixed_cells"):
        for roll_out in ("reference", "learned"):
            method = searnn(roll_in=roll_in, roll_out=roll_out, cost=cost)
            found = method.search(policy, batch, CLOCK)
            assert found.costs.min() >= 0
            assert found.costs.max() <= 1.5
            empty = found.outputs.lengths.view(found.costs.shape) == 0
            assert bool((empty.any(1) == (found.cells.nonzero()[:, 1] == 0)).all())
            assert finite(method.loss(policy, batch, CLOCK), policy)


def test_targets_of_one_token():
    fixed = tiny_policy(4, eos=False, attention="aligned")
    batch = tiny_batch(fixed, lengths=(1, 1, 1))
    found = searnn(cost="hamming").search(fixed, batch, CLOCK)
    expected = torch.arange(4) != batch.target
    assert torch.equal(found.costs, expected.double())
    assert found.outputs.steps == 0
    free = tiny_policy(4, attention="general")
    batch = of_length(free, 2, 2)
    method = searnn(roll_in="reference", roll_out="reference", cost="edit_distance")
    costs = method.search(free, batch, CLOCK).costs
    first = batch.target[:, :1]
    assert torch.equal(costs[::2], (torch.arange(4) != first).double())
    assert costs[1::2].tolist() == [[1, 1, 1, 0]] * 2


def test_a_policy_that_never_ends():
    """Roll-ins and roll-outs have the limit, and the reference policy may write beyond it."""
    policy = writing(tiny_policy(4, attention="general", limit=20), 0)
    batch = of_length(policy, 1, 2, 4)
    method = searnn(roll_in="learned", roll_out="learned", cost="edit_distance", stretch=2.0)
    found = method.search(policy, batch, CLOCK)
    assert found.roll_in.lengths.tolist() == [2, 4, 8]
    assert bool((found.roll_in.tokens[found.roll_in.mask] == 0).all())
    limits = torch.tensor([2, 4, 8]).repeat_interleave(torch.tensor([2, 4, 8]) * 4)
    ended = torch.arange(4).repeat(14) == 3
    assert torch.equal(found.outputs.lengths[~ended], limits[~ended])
    taught = searnn(roll_in="learned", roll_out="reference", cost="edit_distance", stretch=2.0)
    assert bool((taught.search(policy, batch, CLOCK).outputs.lengths >= 0).all())
    assert finite(method.loss(policy, batch, CLOCK), policy)


def test_a_policy_that_ends_at_once():
    """Its roll-in has one cell; only eos is known, as any other token is followed by eos."""
    policy = writing(tiny_policy(4, attention="general", limit=20), 3)
    batch = of_length(policy, 1, 2, 4)
    method = searnn(roll_in="learned", roll_out="learned", cost="edit_distance")
    found = method.search(policy, batch, CLOCK)
    assert found.roll_in.lengths.tolist() == [1, 1, 1]
    assert found.outputs.lengths.view(3, 4).tolist() == [[1, 1, 1, 0]] * 3
    assert found.outputs.steps == 3 * 3
    assert finite(method.loss(policy, batch, CLOCK), policy)


def test_a_limit_below_the_target_is_raised_to_it():
    policy = tiny_policy(4, attention="general", limit=2)
    batch = of_length(policy, 5, 1)
    method = searnn(roll_in="reference", roll_out="learned", cost="edit_distance")
    lengths = method.search(policy, batch, CLOCK).outputs.lengths
    assert int(lengths.max()) == 5
    assert [twin.limit for twin in twins(method, policy, batch, CLOCK)] == [5, 2]
    assert finite(method.loss(policy, batch, CLOCK), policy)


# Costs


@pytest.mark.parametrize("name", CELL_LOSSES)
@pytest.mark.parametrize("tokens", [{}, {"token_choice": "uniform", "tokens": 2}])
def test_costs_that_are_all_alike(name, tokens):
    """There is nothing to learn but what a loss makes of a tie; nothing is divided by zero."""
    policy = tiny_policy(4, attention="general")
    batch = of_length(policy, 2, 1, 4)

    def alike(hypotheses, lengths, references, reference_lengths):
        return torch.full((len(hypotheses),), 7.0)

    outcome = loss_of(name, alike, reference="copy", **tokens).loss(policy, batch, CLOCK)
    assert finite(outcome, policy)
    assert float(outcome.metrics["regret"]) == 0
    assert float(outcome.metrics["least_cost"]) == 7


def test_ties_are_broken_at_random_and_alike():
    """Over many sentences the best of equals is each token as often."""
    policy = writing(tiny_policy(4, eos=False, attention="none"), 2)
    batch = tiny_batch(policy, lengths=(1,) * 900)

    def alike(hypotheses, lengths, references, reference_lengths):
        return torch.zeros(len(hypotheses))

    method = searnn(cell_loss="ll", cost=alike, reference="copy")
    (gradient,) = torch.autograd.grad(method.loss(policy, batch, CLOCK).total, [policy.output.bias])
    best = 900 * policy.output.bias.detach().softmax(-1) - gradient  # how often each token was a*
    assert float((best - best.round()).abs().max()) < 1e-9
    assert bool(((best - 225).abs() < 4 * math.sqrt(900 * 3 / 16)).all())


@pytest.mark.parametrize("name", CELL_LOSSES)
def test_a_cell_with_one_token_has_nothing_to_learn(name):
    """But from the level of its score, where a loss has one."""
    policy = tiny_policy(4, attention="general")
    batch = of_length(policy, 2, 1, 4)
    method = loss_of(name, "gleu", token_choice="top_k", tokens=1)
    found = method.search(policy, batch, CLOCK)
    assert found.tokens.shape[1] == 1
    outcome = method.loss(policy, batch, CLOCK)
    assert finite(outcome, policy)
    if name != "l2":
        assert float(outcome.total.detach()) == 0
        assert not any(g.any() for g in gradients(policy, outcome.total).values())


@pytest.mark.parametrize(("value", "text"), [(math.nan, "nan"), (-math.inf, "-inf")])
def test_a_batched_cost_that_is_none(value, text):
    policy = tiny_policy(4, attention="general")
    batch = of_length(policy, 2, 1, 4)

    def distance(hypotheses, lengths, references, reference_lengths):
        costs = torch.zeros(len(hypotheses))
        costs[3] = value
        return costs

    method = searnn(cost=distance, reference="copy")
    with pytest.raises(ValueError, match=rf"^the cost gave {text} for row 3; a cost is a finite"):
        method.loss(policy, batch, CLOCK)


def test_costs_far_from_zero_keep_their_differences():
    """In single precision 1e9 and 1e9 + 1 are the same number; what counts is the difference."""
    policy = tiny_policy(4, eos=False, attention="aligned")
    batch = tiny_batch(policy)

    def distance(hypotheses, lengths, references, reference_lengths):
        width = min(hypotheses.shape[1], references.shape[1])
        inside = torch.arange(width) < lengths[:, None]
        wrong = (hypotheses[:, :width] != references[:, :width]) & inside
        return wrong.sum(1).double() + 1e9

    for precision in (torch.float64, torch.float32):
        policy = policy.to(precision)
        near = searnn(cost="hamming_total", alpha=2.0, roll_in="reference")
        far = searnn(cost=distance, reference="copy", alpha=2.0, roll_in="reference")
        found, expected = (m.loss(policy, batch, CLOCK).total for m in (far, near))
        assert torch.equal(found, expected)


def test_a_cost_of_ones_own_needs_no_reference_policy_where_none_is_asked():
    policy = tiny_policy(4, eos=False, attention="aligned")
    batch = tiny_batch(policy)

    def alike(hypotheses, lengths, references, reference_lengths):
        return torch.zeros(len(hypotheses))

    method = searnn(cost=alike, roll_in="learned", roll_out="learned")
    assert finite(method.loss(policy, batch, CLOCK), policy)
    # Nor does one of ours that no reference policy here would suit.
    method = searnn(cost="edit_distance", roll_in="learned", roll_out="learned")
    assert finite(method.loss(policy, batch, CLOCK), policy)


# Precision and size


@pytest.mark.kernels
@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CELL_LOSSES)
def test_half_precision(low, name):
    policy = tiny_policy(5, attention="additive", input_feeding=True, limit=8).to(low)
    batch = of_length(policy, 5, 1, 4)
    method = loss_of(name, "gleu", roll_out="learned")
    outcome = method.loss(policy, batch, CLOCK)
    assert outcome.total.dtype == torch.float32
    assert finite(outcome, policy)


@pytest.mark.parametrize(
    "choice", ["uniform", "policy", "biased", "top_k", "targeted", "neighbors"]
)
def test_vocabularies_of_fifty_thousand(choice):
    words = Vocabulary.build((f"w{i}" for i in range(50_500)), eos=True, unknown=True)
    policy = tiny_policy(words=words, limit=9, attention="general", scale=0.5)
    batch = of_length(policy, 6, 1, 4)
    batch = Batch(
        batch.ids, batch.source, torch.where(batch.mask, batch.target, words.pad), batch.mask
    )
    few = {"token_choice": choice, "tokens": 6, "cells": 2}
    few |= {"neighbors": 3} if choice == "neighbors" else {}
    method = searnn(cost="bleu", roll_in="reference", roll_out="learned", cell_loss="ll", **few)
    found = method.search(policy, batch, CLOCK)
    assert found.tokens.shape[1] <= 6
    rows, cells = found.cells.nonzero().unbind(1)
    wanted = batch.target[rows, cells]
    assert bool(((found.tokens == wanted[:, None]) & found.mask).any(1).all())
    assert finite(method.loss(policy, batch, CLOCK), policy)
    assert bool((found.mask.sum(1) > 1).any())


@pytest.mark.parametrize(
    "choice", ["uniform", "policy", "biased", "top_k", "targeted", "neighbors"]
)
def test_more_tokens_than_there_are_is_all_of_them(choice):
    policy = tiny_policy(4, attention="general")
    batch = of_length(policy, 5, 1, 4)
    near = {"neighbors": 1} if choice == "neighbors" else {}
    wide = {"gap": 1.0} if choice == "targeted" else {}
    method = searnn(cost="gleu", token_choice=choice, tokens=99, **near, **wide)
    found = method.search(policy, batch, CLOCK)
    for tokens, counts in zip(found.tokens, found.mask, strict=True):
        assert sorted(tokens[counts].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("choice", ["uniform", "policy", "top_k"])
def test_the_reference_policy_is_asked_once_for_the_tokens_of_all_cells(choice, monkeypatch):
    asked, ask = [], Search.next_token
    monkeypatch.setattr(Search, "next_token", lambda *given: asked.append(1) or ask(*given))
    policy = tiny_policy(4)
    method = searnn(cost="gleu", roll_in="learned", token_choice=choice, tokens=2)
    method.search(policy, of_length(policy, 5, 1, 4), CLOCK)
    assert len(asked) == 1


# What does not suit what is written


def test_costs_of_equal_lengths_are_for_outputs_of_fixed_length():
    policy = tiny_policy(4)
    batch = of_length(policy, 5, 1, 4)
    message = (
        "^cost=hamming compares equal lengths, but these outputs end in eos, at any length: "
        "use edit_distance$"
    )
    for warm_up in (0.0, 0.9):
        with pytest.raises(ValueError, match=message):
            searnn(cost="hamming", warm_up=warm_up).loss(policy, batch, CLOCK)


@pytest.mark.parametrize("settings", [{}, {"reference": "best_suffix_gleu"}])
def test_reference_policies_keep_to_a_fixed_length(settings):
    policy = tiny_policy(4, eos=False)
    batch = tiny_batch(policy)
    name = settings.get("reference", "min_edit_distance")
    message = (
        f"^reference={name} ends at any length, but these outputs are as long as their sources: "
        "use copy or max_f1$"
    )
    with pytest.raises(ValueError, match=message):
        searnn(cost="edit_distance", **settings).loss(policy, batch, CLOCK)
    taught = {"roll_out": "learned", "token_choice": "top_k", "tokens": 2}
    with pytest.raises(ValueError, match=message):
        searnn(cost="edit_distance", **settings, **taught).loss(policy, batch, CLOCK)
    kept = searnn(cost="edit_distance", reference="copy").search(policy, batch, CLOCK)
    lengths = batch.lengths.repeat_interleave(batch.lengths * 4)
    assert torch.equal(kept.outputs.lengths, lengths)


def test_a_cost_or_a_reference_policy_that_is_missing():
    policy = tiny_policy(4)
    batch = of_length(policy, 5, 1, 4)
    message = r"^SEARNN\.cost is None: choose a cost; training on a task uses that of the task$"
    for warm_up in (0.0, 0.9):
        with pytest.raises(ValueError, match=message):
            searnn(warm_up=warm_up).loss(policy, batch, CLOCK)
    message = r"^SEARNN\.reference is None: name the one that matches your cost$"
    with pytest.raises(ValueError, match=message):
        searnn(cost=PythonCost(lambda own, true: 0.0)).loss(policy, batch, CLOCK)


def test_tags_are_needed_for_chunks():
    policy = tiny_policy(4, eos=False)
    with pytest.raises(
        ValueError, match=r"^the symbol 'a' is not an IOB2 tag; chunks need tags such"
    ):
        searnn(cost="chunk_f1").loss(policy, tiny_batch(policy), CLOCK)


def test_targets_that_were_cut_off_have_no_eos_to_leave_out():
    policy = tiny_policy(3, limit=4)
    a, b, eos, pad = 0, 1, policy.vocabulary.eos, policy.vocabulary.pad
    batch = tiny_batch(policy, (3, 2), (2, 3))
    target = torch.tensor([[a, b, pad], [a, b, eos]])
    batch = Batch(batch.ids, batch.source, target, target != pad)
    method = searnn(cost="edit_distance", roll_in="reference", roll_out="reference")
    found = method.search(policy, batch, CLOCK)
    costs = {
        place: dict(zip(tokens, values, strict=True))
        for place, tokens, values in zip(
            map(tuple, found.cells.nonzero().tolist()),
            found.tokens.tolist(),
            found.costs.tolist(),
            strict=True,
        )
    }
    for row in (0, 1):
        assert costs[row, 0] == {a: 0, b: 1 / 2, eos: 1}
        assert costs[row, 1] == {a: 1 / 2, b: 0, eos: 1 / 2}
    assert costs[1, 2] == {a: 1 / 2, b: 1 / 2, eos: 0}
    assert finite(method.loss(policy, batch, CLOCK), policy)
