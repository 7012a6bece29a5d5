"""Beam search optimization: its violations by enumeration, its margin, and its growing beam."""

import itertools

import pytest
import torch

from freerun.costs import edit_distance
from freerun.decoding import beam_search, greedy
from freerun.methods import BSO, MLE, Clock
from freerun.methods.bso import find_violations
from tests.helpers import close, gradients, raises, single, tiny_batch, tiny_policy
from tests.methods.checks import gradcheck_loss
from tests.methods.enumeration import many, tiny_example
from tests.models.models import text_batch, tiny_adapted
from tests.twins import scores_after

CLOCK = Clock(2, total=9, seed=3)


def bso(**settings):
    return BSO(**{"warm_up": 0.0, "anneal": 0.0, **settings})


def score_of(policy, one, prefix, local):
    """s of a prefix, each of whose tokens is scored after a pass of its own."""
    cells = range(len(prefix) - 1, len(prefix)) if local else range(len(prefix))
    total = 0.0
    for cell in cells:
        inputs = torch.tensor([[policy.vocabulary.bos, *prefix[:cell]]])
        scores = scores_after(policy, one.source, inputs)
        total = total + (scores if local else scores.log_softmax(-1))[prefix[cell]]
    return total


def twin(policy, one, size, margin, local):
    """The violations of one example, and its loss with gradient, from sets of all continuations."""
    target, eos = tuple(one.target[0].tolist()), policy.vocabulary.eos
    beam, start, found, total = [()], 0, [], 0.0
    for end in range(1, len(target) + 1):
        right = target[:end]
        every = [
            (*prefix, token)
            for prefix in beam
            for token in range(policy.vocabulary.actions)
            if not prefix or prefix[-1] != eos
        ]
        scores = {prefix: score_of(policy, one, prefix, local) for prefix in every}
        ranked = sorted(every, key=lambda prefix: -float(scores[prefix].detach()))
        beam = ranked[:size]
        rival = None
        if end == len(target):
            rival = next((prefix for prefix in ranked if prefix != right), None)
        elif len(ranked) >= size:
            rival = ranked[size - 1] if ranked[size - 1] != right else ranked[size - 2]
        if rival is not None and scores[rival] + margin > scores[right]:
            found.append((start, end, rival))
            total = total + margin - scores[right] + scores[rival]
            beam, start = [right], end
    return found, total


def list_violations(found):
    parts = (part.tolist() for part in (found.rows, found.starts, found.ends, found.tokens))
    rows = zip(*parts, strict=True)
    return sorted((row, start, end, tuple(tokens[:end])) for row, start, end, tokens in rows)


@pytest.mark.parametrize("score", ["log_prob", "last"])
@pytest.mark.parametrize(("beam", "margin"), [(2, 1.0), (3, 0.3), (6, 0.01)])
@pytest.mark.parametrize(
    "settings", [{"attention": "general", "input_feeding": True}, {"eos": False, "cell": "lstm"}]
)
def test_violations_and_their_loss_are_those_of_a_plain_search(beam, margin, score, settings):
    policy = tiny_policy(4, scale=0.8, **settings)
    batch = tiny_batch(policy, lengths=(3, 1, 4, 2), targets=(3, 1, 4, 2))
    local, expected, total = score == "last", [], 0.0
    for row in range(4):
        violations, loss = twin(policy, single(batch, row), beam, margin, local)
        expected += [(row, *each) for each in violations]
        total = total + loss
    found = find_violations(policy, batch, size=beam, margin=margin, local=local)
    assert list_violations(found) == sorted(expected)
    outcome = bso(beam=beam, margin=margin, score=score).loss(policy, batch, CLOCK)
    close(outcome.total, total)
    close(gradients(policy, outcome.total), gradients(policy, total), 1e-11)
    assert int(outcome.count) == int(batch.mask.sum())
    assert float(outcome.metrics["violations"]) == pytest.approx(len(expected) / 10)
    assert beam == 6 or len(expected) > 0


def test_violations_in_a_row_start_where_the_one_before_ended():
    """And some do not follow one another, so that prefixes of several own tokens are compared."""
    policy = tiny_policy(4, scale=0.8, eos=False)
    batch = tiny_batch(policy, lengths=(5,) * 30)
    found = list_violations(find_violations(policy, batch, size=3, margin=0.5, local=False))
    lengths = {end - start for _, start, end, _ in found}
    assert {1, 2, 3} <= lengths
    for (row, _, end, _), (other, start, _, _) in itertools.pairwise(found):
        assert start == (end if row == other else 0)


def test_a_beam_of_everything_compares_the_best_other_output():
    """All 4³ outputs: only the end counts, and its rival is the most probable of all others."""
    policy, one = tiny_example(4, length=3, eos=False)
    target = tuple(one.target[0].tolist())
    every = list(itertools.product(range(4), repeat=3))
    scores = {tokens: score_of(policy, one, tokens, local=False) for tokens in every}
    best = max((t for t in every if t != target), key=lambda t: float(scores[t].detach()))
    outcome = bso(beam=65, margin=20.0).loss(policy, one, CLOCK)
    close(outcome.total, 20 - scores[target] + scores[best])
    assert float(outcome.metrics["violations"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("beam", [2, 4])
def test_where_nothing_is_violated_the_search_finds_the_target(beam):
    """Greedy decoding after training with a beam of 2, and a beam of one place less else."""
    policy = tiny_policy(4, eos=False)  # else an output that ends earlier may be better
    batch = tiny_batch(policy, lengths=(3, 1, 4))
    optimizer = torch.optim.Adam(policy.parameters(), 0.05)
    for step in range(200):
        outcome = bso(beam=beam).loss(policy, batch, Clock(step, 200))
        if float(outcome.metrics["violations"]) == 0:
            break
        optimizer.zero_grad()
        outcome.total.backward()
        optimizer.step()
    assert step > 0
    assert float(outcome.total.detach()) == 0
    assert not any(bool(g.any()) for g in gradients(policy, outcome.total).values())
    search = greedy if beam == 2 else lambda *a, **k: beam_search(*a, size=beam - 1, **k)
    found = search(policy, batch.source, limit=batch.lengths)
    assert torch.equal(found.tokens[batch.mask], batch.target[batch.mask])


def test_the_cost_weighs_violations():
    """Of the tokens since the search last started over, without eos."""
    policy = tiny_policy(4, scale=0.8, attention="general")
    batch = tiny_batch(policy, targets=(4, 3, 4, 2))
    method = bso(beam=3, cost="edit_distance")
    expected, plain = 0.0, 0.0
    eos = policy.vocabulary.eos
    for row in range(4):
        one = single(batch, row)
        target = one.target[0].tolist()
        for start, end, rival in twin(policy, one, 3, 1.0, local=False)[0]:
            own, right = ([t for t in tokens[start:end] if t != eos] for tokens in (rival, target))
            pair = [torch.tensor([[*each, 0]]) for each in (own, right)]
            lengths = [torch.tensor([len(each)]) for each in (own, right)]
            cost = edit_distance(pair[0], lengths[0], pair[1], lengths[1])
            loss = (
                1 - score_of(policy, one, target[:end], False) + score_of(policy, one, rival, False)
            )
            expected, plain = expected + cost * loss, plain + loss
    total = method.loss(policy, batch, CLOCK).total
    close(total, expected.sum())
    assert abs(float((total - plain).detach())) > 1e-3


def test_the_beam_grows_from_two_to_its_size():
    sizes = [BSO(beam=5, warm_up=0.2, anneal=0.4).find_size(Clock(s, 20)) for s in range(4, 20)]
    assert sizes == [2, 2, 3, 3, 4, 4, 5, 5] + [5] * 8
    assert BSO(beam=4, anneal=0.0).find_size(Clock(10, 20)) == 4
    assert {BSO(beam=2).find_size(Clock(step, 20)) for step in range(10, 20)} == {2}


def test_it_is_maximum_likelihood_first():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    expected = MLE().loss(policy, batch, Clock(4, 9))
    assert torch.equal(BSO().loss(policy, batch, Clock(4, 9)).total, expected.total)
    assert "violations" in BSO().loss(policy, batch, Clock(5, 9)).metrics


@pytest.mark.parametrize("score", ["log_prob", "last"])
def test_gradients_are_those_of_finite_differences(score):
    """With the violations held, as the step is small."""
    gradcheck_loss(bso(beam=3, score=score, cost="edit_distance"))


def test_the_search_has_no_dropout():
    policy = tiny_policy(4, dropout=0.5, layers=2)
    batch = tiny_batch(policy)
    expected = find_violations(policy, batch, size=3, margin=1.0, local=False)
    policy.train()
    found = find_violations(policy, batch, size=3, margin=1.0, local=False)
    assert policy.training
    assert list_violations(found) == list_violations(expected)


@pytest.mark.parametrize(
    ("name", "shared", "trees"),
    [("gpt2", True, True), ("bart", False, True), ("t5", True, False), ("mistral", False, False)],
)
def test_hugging_face_models_have_the_loss_of_a_plain_search(name, shared, trees):
    """Whether they read trees of prefixes or not; and they train with dropout and checkpointing."""
    policy = tiny_adapted(name, shared=shared, letters="abc", dropout=0.3)
    assert policy.reads_trees == trees
    batch = text_batch(policy)
    total = sum(twin(policy, single(batch, row), 3, 1.0, False)[1] for row in range(len(batch.ids)))
    outcome = bso(beam=3).loss(policy, batch, CLOCK)
    torch.testing.assert_close(outcome.total, total, atol=1e-4, rtol=1e-4)
    policy.train()
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    other = bso(beam=3).loss(policy, batch, CLOCK)
    assert torch.equal(other.metrics["violations"], outcome.metrics["violations"])
    other.total.backward()
    grown = [p.grad for p in policy.parameters() if p.requires_grad and p.grad is not None]
    assert any(bool(gradient.any()) for gradient in grown)
    assert all(bool(gradient.isfinite().all()) for gradient in grown)


def test_an_example_has_the_same_violations_in_any_batch():
    policy, one = tiny_example(4, length=3)
    alone = list_violations(find_violations(policy, one, size=3, margin=1.0, local=False))
    three = find_violations(policy, many(one, 3), size=3, margin=1.0, local=False)
    assert list_violations(three) == [(row, *each[1:]) for row in range(3) for each in alone]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 1}, "beam is 1; it must be at least 2"),
        ({"anneal": 1.5}, "anneal is 1.5; it must be in [0, 1]"),
        ({"margin": 0.0}, "margin is 0.0; it must be finite and above 0"),
        ({"warm_up": 1.0}, "warm_up is 1.0; it must lie in [0, 1)"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with raises(ValueError, message):
        BSO(**settings)
