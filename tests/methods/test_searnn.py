"""SEARNN: enumeration at small sizes, limits that hold exactly, and what others got wrong."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from freerun.costs import PythonCost
from freerun.methods import MLE, Clock
from freerun.vocabulary import Vocabulary
from tests.helpers import (
    close,
    gradients,
    searnn,
    sequences,
    single,
    tiny_batch,
    tiny_policy,
)
from tests.methods.checks import gradcheck_loss
from tests.searnn_twin import COSTS

CLOCK = Clock(3, total=9, seed=1)
TAGS = Vocabulary.build(("O", "B-A", "I-A"), eos=False)


def searched(method, policy, batch, clock=CLOCK):
    """For every (row, cell) the costs of the tokens that were tried there, and the roll-in."""
    found = method.search(policy, batch, clock)
    costs = {}
    for (row, cell), tokens, counts, values in zip(
        found.cells.nonzero().tolist(),
        found.tokens.tolist(),
        found.mask.tolist(),
        found.costs.tolist(),
        strict=True,
    ):
        pairs = itertools.compress(zip(tokens, values, strict=True), counts)
        costs[row, cell] = dict(pairs)
    return costs, found.roll_in.tokens.tolist()


# Enumeration


def cut(tokens, eos):
    return [token for token in tokens if token != eos]


def is_greedy(policy, source, tokens, start):
    """Whether the policy writes every token of a sequence from `start` on."""
    inputs = torch.tensor([[policy.vocabulary.bos, *tokens[:-1]]])
    best = policy.force(source, inputs).logits(torch.ones_like(inputs).bool()).argmax(-1)
    return best[start:].tolist() == list(tokens[start:])


ENUMERATED = [
    ({"limit": 4}, "edit_distance"),
    ({"limit": 4, "attention": "additive", "input_feeding": True}, "gleu"),
    ({"eos": False, "attention": "general", "cell": "lstm"}, "hamming"),
    ({"eos": False, "attention": "aligned", "words": TAGS}, "chunk_f1"),
]


@pytest.mark.parametrize(("settings", "name"), ENUMERATED, ids=[name for _, name in ENUMERATED])
@pytest.mark.parametrize("roll_in", ["reference", "learned"])
def test_learned_roll_outs_by_enumeration(settings, name, roll_in):
    """Of all sequences, the one that begins so and is the policy's choice from there on."""
    policy = tiny_policy(3, **settings)
    words, batch = policy.vocabulary, tiny_batch(policy, targets=(4, 1, 3, 2))
    method = searnn(roll_in=roll_in, roll_out="learned", cost=name, stretch=1.0)
    costs, written = searched(method, policy, batch)
    for (row, cell), tried in costs.items():
        one = single(batch, row)
        target = one.target[0].tolist()
        every = list(sequences(3, len(target), words.eos))
        for token in range(3):
            prefix = (*written[row][:cell], token)
            whole = [y for y in every if y[: cell + 1] == prefix]
            whole = [y for y in whole if is_greedy(policy, one.source, y, cell + 1)]
            (output,) = [prefix] if token == words.eos else whole
            expected = COSTS[name](cut(output, words.eos), cut(target, words.eos), words)
            assert tried[token] == pytest.approx(expected, abs=1e-15)
        assert len(tried) == 3


@pytest.mark.parametrize(
    ("settings", "name"), [e for e in ENUMERATED if e[1] != "gleu"], ids=lambda e: str(e)[:13]
)
@pytest.mark.parametrize("roll_in", ["reference", "learned"])
def test_an_optimal_reference_loses_no_more_than_any_completion(settings, name, roll_in):
    """Every token costs what the best completion after it costs; so the best token is optimal."""
    policy = tiny_policy(3, **settings)
    words, batch = policy.vocabulary, tiny_batch(policy, targets=(4, 1, 3, 2))
    letters = range(3 - (words.eos is not None))
    costs, written = searched(
        searnn(roll_in=roll_in, roll_out="reference", cost=name), policy, batch
    )
    for (row, cell), tried in costs.items():
        target = cut(single(batch, row).target[0].tolist(), words.eos)
        prefix = written[row][:cell]

        def least(prefix, target=target):
            """Of all completions; without eos those to the length, else up to the target's."""
            left = [len(target) - len(prefix)] if words.eos is None else range(len(target) + 1)
            rests = (itertools.product(letters, repeat=n) for n in left)
            return min(
                COSTS[name]([*prefix, *rest], target, words)
                for rest in itertools.chain.from_iterable(rests)
            )

        for token, cost in tried.items():
            ended = token == words.eos
            best = COSTS[name](prefix, target, words) if ended else least([*prefix, token])
            assert cost == pytest.approx(best, abs=1e-15)
        assert min(tried.values()) == pytest.approx(least(prefix), abs=1e-15)


# Limits


@pytest.mark.parametrize("attention", ["none", "aligned", "additive"])
def test_with_hamming_and_reference_policies_ll_is_mle(attention):
    policy = tiny_policy(4, eos=False, attention=attention)
    batch = tiny_batch(policy)
    for cost in ("hamming", "hamming_total"):
        method = searnn(roll_in="reference", roll_out="reference", cost=cost, cell_loss="ll")
        found, mle = method.loss(policy, batch, CLOCK), MLE().loss(policy, batch, CLOCK)
        assert torch.equal(found.total, mle.total)
        ours, theirs = gradients(policy, found.total), gradients(policy, mle.total)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert found.count == mle.count


def test_with_edit_distance_and_reference_policies_ll_is_mle():
    """With eos too: the reference token alone costs nothing."""
    policy = tiny_policy(4, attention="general", input_feeding=True)
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    method = searnn(roll_in="reference", roll_out="reference", cost="edit_distance", cell_loss="ll")
    found, mle = method.loss(policy, batch, CLOCK), MLE().loss(policy, batch, CLOCK)
    assert torch.equal(found.total, mle.total)
    close(gradients(policy, found.total), gradients(policy, mle.total))


def smoothing(alpha, actions):
    return actions * math.exp(-alpha) / (1 + (actions - 1) * math.exp(-alpha))


@pytest.mark.parametrize("alpha", [0.7, 4.0, 200.0])
def test_with_hamming_and_reference_policies_kl_is_label_smoothing(alpha):
    """As strong for the number of wrong cells, and by a sentence's length for their share."""
    policy = tiny_policy(4, eos=False, attention="additive", input_feeding=True)
    batch = tiny_batch(policy)
    settings = {"roll_in": "reference", "roll_out": "reference", "alpha": alpha}
    found = searnn(**settings, cost="hamming_total").loss(policy, batch, CLOCK).total
    mle = MLE(label_smoothing=smoothing(alpha, 4)).loss(policy, batch, CLOCK).total
    close(found, mle)
    close(gradients(policy, found), gradients(policy, mle))
    found, expected = searnn(**settings, cost="hamming").loss(policy, batch, CLOCK).total, 0.0
    for row, length in enumerate(batch.lengths.tolist()):
        one = single(batch, row)
        expected += MLE(label_smoothing=smoothing(alpha / length, 4)).loss(policy, one, CLOCK).total
    close(found, expected)
    close(gradients(policy, found), gradients(policy, expected))


def test_a_sharp_target_is_the_best_token():
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    settings = {"roll_in": "reference", "roll_out": "reference", "cost": "edit_distance"}
    sharp = searnn(**settings, alpha=1e6).loss(policy, batch, CLOCK).total
    close(sharp, searnn(**settings, cell_loss="ll").loss(policy, batch, CLOCK).total)


def test_finite_differences():
    """Between jumps of its own tokens the loss is smooth: costs and roll-ins have no gradient."""
    gradcheck_loss(searnn(cost="edit_distance", alpha=3.0), attention="general", input_feeding=True)
    gradcheck_loss(searnn(cost="gleu", roll_out="learned", cell_loss="llcas", alpha=2.0))


def test_warm_up_is_maximum_likelihood():
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    method = searnn(cost="edit_distance", warm_up=0.25)
    mle = MLE().loss(policy, batch, CLOCK).total
    after = replace(method, warm_up=0.0)
    for step in range(10):
        clock = Clock(step, total=10)
        found = method.loss(policy, batch, clock).total
        assert torch.equal(found, mle if step < 3 else after.loss(policy, batch, clock).total)
        assert not torch.equal(found, mle) or step < 3


# What others got wrong


def test_a_learned_roll_in_searches_the_cells_of_its_sentences():
    """20 cells, not 4 times the longest; tokens that are, without eos, none of which is a cell."""
    policy = tiny_policy(4, eos=False, attention="aligned")
    batch = tiny_batch(policy, lengths=(3, 1, 14, 2))
    method = searnn(roll_in="learned", roll_out="learned", cost="hamming", cell_loss="ll")
    found = method.search(policy, batch, CLOCK)
    assert torch.equal(found.cells, batch.mask)
    assert found.tokens.shape == (20, 4)
    assert (
        found.outputs.lengths.tolist()
        == batch.lengths.repeat_interleave(batch.lengths * 4).tolist()
    )
    assert int(method.loss(policy, batch, CLOCK).count) == 20


def test_eos_is_aimed_at_where_it_is_best_alone():
    """A cell of a perfect roll-in has its own target, eos only the last."""
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    method = searnn(roll_in="reference", roll_out="reference", cost="bleu")
    costs, _ = searched(method, policy, batch)
    for (row, cell), tried in costs.items():
        if int(batch.lengths[row]) > 1:  # of an empty target every output costs 1
            assert min(tried, key=tried.get) == int(batch.target[row, cell])


def test_every_cell_counts_once():
    """With all scores alike each cell loses log 4, whatever the costs: 11 times, not 121."""
    policy = tiny_policy(4, attention="general")
    with torch.no_grad():
        policy.output.weight.zero_()
        policy.output.bias.zero_()
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    settings = {"roll_in": "reference", "cost": "gleu"}
    for method in (searnn(**settings), searnn(**settings, cells=2)):
        outcome = method.loss(policy, batch, CLOCK)
        close(outcome.total.detach(), torch.tensor(11 * math.log(4), dtype=torch.float64))


def test_what_the_policy_chose_costs_so_much_more_than_the_best():
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    method = searnn(cost="gleu", token_choice="uniform", tokens=3)
    found = method.search(policy, batch, CLOCK)
    trace = policy.force(batch.source, found.roll_in.inputs(policy.vocabulary.bos))
    regrets, least = [], []
    for scores, tokens, costs in zip(
        trace.logits(found.cells).tolist(),
        found.tokens.tolist(),
        found.costs.tolist(),
        strict=True,
    ):
        chosen = max(range(3), key=lambda i: scores[tokens[i]])
        regrets.append(costs[chosen] - min(costs))
        least.append(min(costs))
    metrics = method.loss(policy, batch, CLOCK).metrics
    assert float(metrics["regret"]) == pytest.approx(sum(regrets) / len(regrets))
    assert float(metrics["least_cost"]) == pytest.approx(sum(least) / len(least))
    assert float(metrics["regret"]) > 0


@pytest.mark.parametrize("roll_in", ["reference", "learned", "mixed_cells"])
def test_costs_are_those_of_the_policy_without_dropout(roll_in):
    """Roll-in, tokens, roll-outs; the pass with the gradient drops out, and modes come back."""
    policy = tiny_policy(5, attention="general", dropout=0.5, layers=2, limit=8)
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    method = searnn(
        roll_in=roll_in, roll_out="learned", cost="gleu", token_choice="top_k", tokens=3
    )
    plain, loss = searched(method, policy, batch), method.loss(policy, batch, CLOCK).total
    policy.train()
    policy.encoder.eval()
    for _ in range(2):
        assert searched(method, policy, batch) == plain
        assert not torch.equal(method.loss(policy, batch, CLOCK).total, loss)
        assert policy.training
        assert policy.decoder.training
        assert not policy.encoder.training


# Chance and memory


def test_a_cost_of_ones_own_is_one_of_ours():
    """As a function of tensors, and as one of Python on tokens."""
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    named = searnn(cost="edit_distance", reference="best_suffix_gleu")

    def distance(own, true):
        return COSTS["edit_distance"](own, true, policy.vocabulary)

    with pytest.warns(UserWarning, match="the cost distance is a Python function"):
        found = searched(replace(named, cost=PythonCost(distance)), policy, batch)
    assert found == searched(named, policy, batch)
