"""Policy gradients: their mean by enumeration, their baselines, and MIXER's schedule."""

import itertools

import pytest
import torch

from freerun.costs import edit_distance
from freerun.losses import leave_one_out, policy_gradient
from freerun.methods import MIXER, Clock, Reinforce, reinforce
from freerun.methods.reinforce import MovingMean
from freerun.methods.samples import draw_samples, write_greedily
from tests.helpers import close, gradients, padded, raises, single, tiny_batch, tiny_policy
from tests.methods.enumeration import (
    all_outputs,
    costs_of,
    expected_cost,
    finite_difference,
    log_probs_of,
    tiny_example,
    tokens_of,
)

CLOCK = Clock(2, total=9, seed=3)
COSTS = {"cost": "edit_distance", "warm_up": 0.0}
POLICIES = [{}, {"eos": False}, {"attention": "additive", "input_feeding": True, "cell": "lstm"}]


def slope(policy, value, found):
    """A finite difference of a value, and the same derivative by the gradients that were found."""
    generator = torch.Generator().manual_seed(1)
    direction = {
        name: torch.randn(g.shape, generator=generator).double() for name, g in found.items()
    }
    ours = sum(float((g * direction[name]).sum()) for name, g in found.items())
    return finite_difference(policy, value, direction), ours


def mean_gradients(method, policy, one, monkeypatch, modules, outputs, weights):
    """The mean loss and gradient of a method over all that it may draw for one example."""
    count, total, summed = method.samples, 0.0, None
    for places in itertools.product(range(len(outputs.rows)), repeat=count):
        drawn = outputs.select(torch.tensor(places))
        monkeypatch.setattr(reinforce, "draw_samples", lambda *_, drawn=drawn, **__: drawn)
        outcome = method.loss(policy, one, CLOCK, modules)
        weight = float(weights[list(places)].prod())
        total += weight * float(outcome.total.detach())
        found = gradients(policy, outcome.total)
        summed = {n: weight * g + (summed[n] if summed else 0) for n, g in found.items()}
    return total, summed


@pytest.mark.sample(8)
@pytest.mark.parametrize("policy", POLICIES, ids=["gru", "no eos", "lstm"])
@pytest.mark.parametrize(
    ("baseline", "count"),
    [("none", 1), ("mean", 1), ("greedy", 1), ("learned", 1), ("leave_one_out", 2)],
)
def test_the_mean_gradient_is_that_of_the_expected_cost(policy, baseline, count, monkeypatch):
    """Over all samples; and that gradient is the slope of the expected cost."""
    policy, one = tiny_example(length=3 if count == 1 else 2, **policy)
    length = int(policy.limit(one.source)[0])
    method = Reinforce(**COSTS, baseline=baseline, samples=count, stretch=1.5)
    modules = method.build_modules(policy)
    if baseline == "learned":
        with torch.no_grad():
            modules["baseline"].weight.normal_(generator=torch.Generator().manual_seed(0))
            modules["baseline"].bias.fill_(0.3)
    if baseline == "mean":
        method.load_state_dict({"total": 0.35, "weight": 0.5})
    outputs = all_outputs(policy, one, length)
    weights = log_probs_of(outputs, policy, one).exp().detach()
    total, found = mean_gradients(method, policy, one, monkeypatch, modules, outputs, weights)
    expected = expected_cost(policy, one, length)
    assert total == pytest.approx(float(expected.detach()))
    close(found, gradients(policy, expected), 1e-10)
    difference, ours = slope(policy, lambda moved: expected_cost(moved, one, length), found)
    assert ours == pytest.approx(difference, rel=1e-5)
    assert abs(ours) > 1e-4


def test_a_baseline_lowers_the_variance(monkeypatch):
    """The reason to have one: the mean square of the gradient over all samples."""
    policy, one = tiny_example(length=2)
    outputs = all_outputs(policy, one, 2)
    probabilities = log_probs_of(outputs, policy, one).exp().tolist()
    squares = {}
    for baseline in ("none", "mean"):
        method = Reinforce(**COSTS, baseline=baseline, samples=1)
        method.load_state_dict({"total": 0.8, "weight": 1.0})
        squares[baseline] = 0.0
        for place, probability in enumerate(probabilities):
            drawn = outputs.select(torch.tensor([place]))
            monkeypatch.setattr(reinforce, "draw_samples", lambda *_, drawn=drawn, **__: drawn)
            found = gradients(policy, method.loss(policy, one, CLOCK).total)
            squares[baseline] += probability * sum(float(g.square().sum()) for g in found.values())
    assert squares["mean"] < 0.5 * squares["none"]


def test_mixer_learns_the_first_tokens_and_the_cost_of_the_rest(monkeypatch):
    """Its mean loss and gradient over all rests of one example."""
    policy, one = tiny_example(length=3)
    method = MIXER(**COSTS, baseline="none", anneal=0.6)
    assert method.given_tokens(one, CLOCK).tolist() == [0]
    assert method.given_tokens(one, Clock(0, 9)).tolist() == [1]
    monkeypatch.setattr(MIXER, "given_tokens", lambda *_: torch.tensor([1]))
    first = int(one.target[0, 0])
    outputs = all_outputs(policy, one)
    places = [i for i, tokens in enumerate(tokens_of(outputs)) if tokens[0] == first]
    outputs = outputs.select(torch.tensor(places))
    log_probs = log_probs_of(outputs, policy, one)
    start = torch.logsumexp(log_probs, 0)
    conditional = (log_probs - start).exp()
    assert conditional.sum().item() == pytest.approx(1)
    expected = (conditional * costs_of(outputs, policy, one)).sum() - start
    weights = conditional.detach()
    modules = method.build_modules(policy)
    total, found = mean_gradients(method, policy, one, monkeypatch, modules, outputs, weights)
    assert total == pytest.approx(float(expected.detach()))
    close(found, gradients(policy, expected), 1e-10)


def test_the_rest_of_mixer_grows_from_one_token_to_all():
    policy = tiny_policy(4)
    batch = tiny_batch(policy, lengths=(2, 2, 2), targets=(8, 4, 1))
    method = MIXER(warm_up=0.2, anneal=0.5)
    given = [method.given_tokens(batch, Clock(step, 10)).tolist() for step in (2, 3, 4, 5, 6, 9)]
    assert given == [[6, 3, 0], [4, 2, 0], [3, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    at_once = MIXER(warm_up=0.2, anneal=0.0)
    assert at_once.given_tokens(batch, Clock(2, 10)).tolist() == [0, 0, 0]


def test_when_all_is_own_mixer_is_reinforce():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    settings = {**COSTS, "samples": 3, "baseline": "leave_one_out"}
    mixed, plain = MIXER(**settings, anneal=0.0), Reinforce(**settings)
    close(mixed.loss(policy, batch, CLOCK).total, plain.loss(policy, batch, CLOCK).total)


def test_baselines_by_hand():
    costs = torch.tensor([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0]])
    assert leave_one_out(costs).tolist() == [[3.0, 2.5, 0.5], [2.0, 2.0, 2.0]]
    with raises(ValueError, "costs has 1 samples for each example; it must have at least 2"):
        leave_one_out(costs[:, :1])
    mean = MovingMean()
    assert mean.value == 0
    for batches in ([[1.0, 3.0]], [[4.0], [4.0, 1.0]], []):
        for each in batches:
            mean.add(torch.tensor(each))
        before = mean.value
        mean.commit(0.5)
        assert before in (0.0, 2.0, pytest.approx(8 / 3))
    assert mean.value == pytest.approx((0.25 * 2 + 0.5 * 3) / 0.75)


def test_the_value_is_the_cost_and_the_gradient_the_advantage():
    log_probs = torch.tensor([[-1.0, -2.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    found = policy_gradient(log_probs, torch.tensor([3.0]), torch.tensor([[1.0, 2.5, 9.0]]), mask)
    assert found.tolist() == [3.0]
    (gradient,) = torch.autograd.grad(found.sum(), log_probs)
    assert gradient.tolist() == [[2.0, 0.5, 0.0]]


def test_the_metrics_and_the_greedy_baseline():
    policy = tiny_policy(4)
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), targets=(5, 1, 3, 2))
    method = Reinforce(**COSTS, samples=2, baseline="greedy")
    outcome = method.loss(policy, batch, CLOCK)
    drawn = draw_samples(policy, batch, 2, CLOCK, stretch=1.5)
    costs = drawn.compute_costs(batch, policy.vocabulary, edit_distance).view(4, 2).mean(1)
    greedy = write_greedily(policy, batch, stretch=1.5)
    theirs = greedy.compute_costs(batch, policy.vocabulary, edit_distance)
    close(outcome.total, costs.sum())
    assert int(outcome.count) == 11
    close(outcome.metrics["cost"], (costs * batch.lengths).sum() / 11)
    close(outcome.metrics["baseline"], (theirs * batch.lengths).sum() / 11)


def test_the_learned_baseline_is_fitted_and_does_not_shape_the_policy():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    method = Reinforce(**COSTS, samples=8, baseline="learned")
    modules = method.build_modules(policy)
    close(
        gradients(policy, method.loss(policy, batch, CLOCK, modules).total),
        gradients(
            policy, Reinforce(**COSTS, samples=8, baseline="none").loss(policy, batch, CLOCK).total
        ),
    )  # it is 0 at first
    optimizer = torch.optim.SGD(modules.parameters(), 0.05)
    for step in range(60):
        optimizer.zero_grad()
        outcome = method.loss(policy, batch, Clock(step, 25), modules)
        outcome.total.backward()
        optimizer.step()
    cost, baseline = (float(outcome.metrics[name]) for name in ("cost", "baseline"))
    assert baseline == pytest.approx(cost, rel=0.25)


def test_neither_padding_nor_parts_change_the_learned_baseline():
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), targets=(5, 1, 3, 2))
    method = MIXER(**COSTS, samples=2, anneal=0.6)
    modules = method.build_modules(policy)
    torch.nn.init.ones_(modules["baseline"].weight)

    def both(rows):
        total = method.loss(policy, rows, CLOCK, modules).total
        return torch.autograd.grad(total, [*policy.parameters(), *modules.parameters()],
                                   allow_unused=True)  # fmt: skip

    whole = [g for g in both(batch) if g is not None]
    wide = [g for g in both(padded(batch, policy.vocabulary.eos)) if g is not None]
    parts = zip(*(both(single(batch, row)) for row in range(4)), strict=True)
    summed = [sum(part) for part in parts if part[0] is not None]
    for one, other, third in zip(whole, wide, summed, strict=True):
        close(other, one)
        close(third, one, 1e-11)


def test_the_moving_mean_is_saved_and_used():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    method = Reinforce(**COSTS, samples=2, baseline="mean", decay=0.5)
    assert method.state_dict() == {"total": 0.0, "weight": 0.0}
    drawn = draw_samples(policy, batch, 2, CLOCK, stretch=1.5)
    mean = float(drawn.compute_costs(batch, policy.vocabulary, edit_distance).mean())
    assert float(method.loss(policy, batch, CLOCK).metrics["baseline"]) == 0
    method.after_update(policy, CLOCK)
    assert method.state_dict() == pytest.approx({"total": mean / 2, "weight": 0.5})
    other = Reinforce(**COSTS, samples=2, baseline="mean", decay=0.5)
    other.load_state_dict(method.state_dict())
    later = Clock(3, total=9, seed=3)
    first, second = (each.loss(policy, batch, later) for each in (method, other))
    assert torch.equal(first.total, second.total)
    assert float(second.metrics["baseline"]) == pytest.approx(mean)
    assert Reinforce().state_dict() == {}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Reinforce, {"samples": 0}, "samples is 0; it must be at least 1"),
        (Reinforce, {"samples": 1}, "samples is 1; baseline=leave_one_out needs at least 2"),
        (Reinforce, {"decay": 0.9}, "decay has no effect on baseline=leave_one_out; leave it out"),
        (Reinforce, {"decay": 1.0, "baseline": "mean"}, "decay is 1.0; it must lie in [0, 1)"),
        (MIXER, {"anneal": 1.5}, "anneal is 1.5; it must be in [0, 1]"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(kind, settings, message):
    with raises(ValueError, message):
        kind(**settings)
