"""Actor-critic: its fixed point and gradient by enumeration, its critic, its delayed networks."""

import copy

import pytest
import torch
from torch import nn

from freerun.costs import edit_distance, hamming
from freerun.methods import MLE, ActorCritic, Clock, Modules, actor_critic
from freerun.methods.actor_critic import (
    build_critic,
    compute_prefix_costs,
    find_targets,
    read_critic,
)
from freerun.methods.samples import Samples, count_text, draw_samples
from freerun.policy import Policy, Trace
from tests.helpers import close, gradients, padded, raises, single, tiny_batch, tiny_policy
from tests.methods.enumeration import (
    all_outputs,
    costs_of,
    expected_cost,
    finite_difference,
    log_probs_of,
    many,
    tiny_example,
    tokens_of,
)
from tests.models.models import text_batch, tiny_adapted
from tests.twins import scores_after

CLOCK = Clock(3, total=9, seed=3)
POLICIES = [{}, {"eos": False, "attention": "general"}]


def actor(**settings):
    return ActorCritic(**{"cost": "edit_distance", "warm_up": 0.0, "critic_size": 5, **settings})


class Table(Policy):
    """A critic that looks Q up by the prefix, for one example; it is only read."""

    limit = start = step = force = embed = None

    def __init__(self, vocabulary, values):
        super().__init__()
        self.vocabulary, self.values = vocabulary, values

    def force_outputs(self, source, rows, inputs):
        return Found(self.values, inputs)


class Found(Trace):
    """What the table has of each prefix."""

    fork = None

    def __init__(self, values, inputs):
        self.values, self.inputs = values, inputs

    def logits(self, cells):
        places = zip(*cells.nonzero(as_tuple=True), strict=True)
        prefixes = (self.inputs[row, 1 : cell + 1].tolist() for row, cell in places)
        return torch.stack([self.values[tuple(prefix)] for prefix in prefixes])


def costs_to_come(policy, one, length=3):
    """Q(a; prefix) for all prefixes: the mean cost of all outputs that begin so, less its own."""
    outputs = all_outputs(policy, one, length)
    probabilities = log_probs_of(outputs, policy, one).exp().detach()
    costs, written = costs_of(outputs, policy, one), tokens_of(outputs)
    known = prefix_costs(policy, one, outputs)
    values = {}
    for prefix in {tokens[:cell] for tokens in written for cell in range(len(tokens))}:
        row = torch.zeros(policy.vocabulary.actions, dtype=torch.float64)
        for token in range(len(row)):
            places = [i for i, t in enumerate(written) if t[: len(prefix) + 1] == (*prefix, token)]
            weights = probabilities[places] / probabilities[places].sum()
            row[token] = (weights * costs[places]).sum() - known[prefix]
        values[prefix] = row
    return values


def prefix_costs(policy, one, outputs):
    """The cost of every prefix, one by one; without eos, completed by the target."""
    eos, target = policy.vocabulary.eos, one.target[0].tolist()
    found = {}
    for tokens in tokens_of(outputs):
        for cell in range(len(tokens) + 1):
            whole = list(tokens[:cell]) if eos is not None else [*tokens[:cell], *target[cell:]]
            row = torch.tensor([[*whole, 0]])
            length = count_text(row, torch.tensor([len(whole)]), eos)
            due = count_text(one.target, one.lengths, eos)
            found[tokens[:cell]] = edit_distance(row, length, one.target, due).item()
    return found


@pytest.fixture(params=POLICIES, ids=["eos", "no eos"])
def example(request):
    policy, one = tiny_example(length=3, **request.param)
    return policy, one, costs_to_come(policy, one)


def judged(policy, one, values, method, monkeypatch, outputs):
    """The loss of all outputs, with a critic and a delayed critic that are tables."""
    critic = Table(policy.vocabulary, values)
    modules = Modules(frozen={"delayed_policy": copy.deepcopy(policy)})
    modules.trained["critic"] = critic
    modules.frozen["delayed_critic"] = critic
    monkeypatch.setattr(actor_critic, "draw_samples", lambda *_, **__: outputs)
    return method.loss(policy, one, CLOCK, modules)


def test_the_cost_to_come_is_the_fixed_point(example, monkeypatch):
    """All outputs of 3 tokens: the errors of temporal differences are 0, and nowhere else."""
    policy, one, values = example
    outputs = all_outputs(policy, one)
    count = len(outputs.rows)
    method = actor(samples=count, penalty=0.0)
    right = judged(policy, one, values, method, monkeypatch, outputs)
    assert right.metrics["td_error"].item() == pytest.approx(0, abs=1e-20)
    wrong = {prefix: row.clone() for prefix, row in values.items()}
    wrong[max(wrong, key=len)][0] += 0.1
    found = judged(policy, one, wrong, method, monkeypatch, outputs).metrics["td_error"]
    assert found.item() > 1e-6


def test_with_that_critic_the_mean_gradient_is_that_of_the_expected_cost(example, monkeypatch):
    """Of one sample, over all outputs; and it is the slope by finite differences."""
    policy, one, values = example
    outputs = all_outputs(policy, one)
    weights = log_probs_of(outputs, policy, one).exp().detach()
    total, summed = 0.0, {}
    for place in range(len(outputs.rows)):
        drawn = outputs.select(torch.tensor([place])).trim()
        outcome = judged(policy, one, values, actor(), monkeypatch, drawn)
        total += float(weights[place] * outcome.total.detach())
        for name, gradient in gradients(policy, outcome.total).items():
            summed[name] = summed.get(name, 0) + weights[place] * gradient
    expected = expected_cost(policy, one)
    assert total == pytest.approx(float(expected.detach()))
    close(summed, gradients(policy, expected), 1e-10)
    ones = {name: torch.ones_like(gradient) for name, gradient in summed.items()}
    slope = finite_difference(policy, lambda moved: expected_cost(moved, one), ones)
    assert sum(float(g.sum()) for g in summed.values()) == pytest.approx(slope, rel=1e-5)
    assert abs(slope) > 1e-4


def test_a_critic_learns_the_cost_to_come():
    """The built one, from samples of a delayed policy that stays."""
    policy, one = tiny_example(length=2, eos=False)
    values = costs_to_come(policy, one, 2)
    method = actor(critic_size=16, target_rate=1.0, penalty=0.0)
    torch.manual_seed(0)
    modules = method.build_modules(policy)
    optimizer = torch.optim.Adam(modules["critic"].parameters(), 0.05)
    batch = many(one, 30)
    for step in range(80):
        optimizer.zero_grad()
        clock = Clock(step, 80)
        method.judge(batch, clock, modules, edit_distance).error.backward()
        optimizer.step()
        method.after_update(policy, clock, modules)
    outputs = all_outputs(policy, one, 2)
    rows = [(t[:cell]) for t in tokens_of(outputs) for cell in range(2)]
    expected = torch.stack([values[prefix] for prefix in rows])
    found = read_critic(modules["critic"], outputs, one).logits(outputs.mask).detach()
    assert float((found - expected).abs().mean()) < 0.1
    assert float(expected.std()) > 0.2


def test_costs_of_prefixes():
    policy = tiny_policy(4)
    batch = tiny_batch(policy, targets=(4, 1, 3, 2))
    drawn = draw_samples(policy, batch, 3, CLOCK, stretch=1.5)
    found = compute_prefix_costs(drawn, batch, policy.vocabulary, edit_distance)
    for row, tokens in enumerate(tokens_of(drawn)):
        one = single(batch, int(drawn.rows[row]))
        alone = Samples(
            torch.tensor([0]), torch.tensor([tokens]), torch.ones(1, len(tokens)).bool()
        )
        known = prefix_costs(policy, one, alone)
        assert found[row, : len(tokens) + 1].tolist() == [
            pytest.approx(known[tokens[:cell]]) for cell in range(len(tokens) + 1)
        ]
        assert not found[row, len(tokens) + 1 :].any()


def test_without_eos_costs_add_up_from_nothing_wrong():
    """Hamming, of which every wrong token is a part."""
    policy = tiny_policy(4, eos=False)
    batch = tiny_batch(policy, lengths=(3, 1, 4, 2))
    drawn = draw_samples(policy, batch, 1, CLOCK, stretch=1.0)
    found = compute_prefix_costs(drawn, batch, policy.vocabulary, hamming)
    width = drawn.mask.shape[1]
    wrong = (drawn.tokens != batch.target[:, :width]) & drawn.mask
    expected = wrong.double() / batch.lengths[:, None]
    close(found.diff(dim=1)[drawn.mask], expected[drawn.mask])
    assert not found[:, 0].any()


def test_targets_by_hand():
    own = Samples(
        torch.tensor([0, 1]), torch.zeros(2, 3).long(), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    )
    costs = torch.tensor([[4.0, 3.0, 1.0, 2.0], [1.0, 0.5, 0.0, 0.0]])
    expected = torch.tensor([9.0, 7.0, 5.0, 9.0, 3.0])
    assert find_targets(own, costs, expected).tolist() == [6.0, 3.0, 1.0, 2.5, -0.5]


def test_the_error_of_the_critic_has_its_variance_as_penalty():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    modules = actor().build_modules(policy)
    nn.init.normal_(modules["critic"].output.weight)
    found = {
        penalty: torch.autograd.grad(
            actor(penalty=penalty).judge(batch, CLOCK, modules, edit_distance).error,
            modules["critic"].output.bias,
        )[0]
        for penalty in (0.0, 2.0)
    }
    judgment = actor().judge(batch, CLOCK, modules, edit_distance)
    values = judgment.trace.logits(judgment.samples.mask)
    centered = values - values.mean(1, keepdim=True)
    close(found[2.0] - found[0.0], (2 * 2 * centered).sum(0).detach())


def test_phases_and_delayed_networks():
    """Log loss; then the critic, too; then the actor, with delayed networks that move slowly."""
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    method = actor(warm_up=0.4, pretraining=0.5, target_rate=0.25)
    modules = method.build_modules(policy)
    weight = policy.output.weight
    delayed = modules["delayed_policy"].output.weight
    before = delayed.clone()
    kinds = []
    for step in range(10):
        clock = Clock(step, 10)
        outcome = method.loss(policy, batch, clock, modules)
        kinds.append("cost" in outcome.metrics)
        if step < 4:
            close(outcome.total, MLE().loss(policy, batch, clock).total)
        with torch.no_grad():
            weight += 1
        method.after_update(policy, clock, modules)
        if step == 0:
            assert torch.equal(delayed, before)
        if step == 1:
            assert torch.equal(delayed, weight)
        if step == 3:
            close(weight - delayed, torch.full_like(weight, 0.75 * 1.75))
    assert kinds == [False] * 2 + [True] * 8
    assert not any(p.requires_grad for p in modules["delayed_critic"].parameters())


def test_the_critic_does_not_shape_the_policy_and_the_log_loss_does():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    modules = actor().build_modules(policy)
    nothing = gradients(policy, actor().loss(policy, batch, CLOCK, modules).total)
    assert not any(bool(gradient.abs().max() > 1e-15) for gradient in nothing.values())  # Q is 0
    outcome = actor(log_loss=0.5).loss(policy, batch, CLOCK, modules)
    half = {n: g / 2 for n, g in gradients(policy, MLE().loss(policy, batch, CLOCK).total).items()}
    close(gradients(policy, outcome.total), half)


def test_the_critic_learns_from_its_error_alone():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    modules = actor().build_modules(policy)
    critic = modules["critic"]
    nn.init.normal_(critic.output.weight)
    found = gradients(critic, actor().loss(policy, batch, CLOCK, modules).total)
    judgment = actor().judge(batch, CLOCK, modules, edit_distance)
    close(found, gradients(critic, judgment.error))
    assert any(bool(gradient.any()) for gradient in found.values())


def test_targets_are_those_of_the_delayed_critic():
    """Of one that says 0.5 of every token, while the critic says 0."""
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    modules = actor().build_modules(policy)
    nn.init.constant_(modules["delayed_critic"].output.bias, 0.5)
    judgment = actor().judge(batch, CLOCK, modules, edit_distance)
    own = judgment.samples
    costs = compute_prefix_costs(own, batch, policy.vocabulary, edit_distance)
    targets = find_targets(own, costs, torch.full((judgment.cells,), 0.5, dtype=costs.dtype))
    squares = torch.zeros_like(own.mask, dtype=costs.dtype)
    squares = squares.masked_scatter(own.mask, targets.square())
    rows = squares.sum(1) / own.mask.sum(1)
    close(judgment.metrics["td_error"], (rows * batch.lengths).sum() / batch.lengths.sum())


def both(method, policy, modules, batch):
    parameters = [*policy.parameters(), *modules.trained.parameters()]
    total = method.loss(policy, batch, CLOCK, modules).total
    return torch.autograd.grad(total, parameters, allow_unused=True)


@pytest.mark.parametrize("settings", [{"attention": "additive"}, {"eos": False, "source": "real"}])
def test_neither_padding_nor_parts_nor_order_change_it(settings):
    policy = tiny_policy(4, **settings)
    sizes = {} if settings.get("eos") is False else {"targets": (5, 1, 3, 2)}
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), **sizes)
    method = actor(samples=2)
    modules = method.build_modules(policy)
    nn.init.normal_(modules["critic"].output.weight)
    nn.init.normal_(modules["delayed_critic"].output.weight)
    whole = both(method, policy, modules, batch)
    shuffled = both(method, policy, modules, batch.select(torch.tensor([2, 0, 3, 1])))
    wide = both(method, policy, modules, padded(batch, policy.vocabulary.pad))
    parts = zip(
        *(both(method, policy, modules, single(batch, row)) for row in range(4)), strict=True
    )
    for one, other, third, part in zip(whole, shuffled, wide, parts, strict=True):
        if one is not None and part[0] is not None:
            close(other, one, 1e-11)
            close(third, one, 1e-11)
            close(sum(part), one, 1e-11)


def test_gradients_are_those_of_finite_differences():
    """Of the expected cost to come by the critic, with samples and critic held."""
    policy = tiny_policy(3, hidden_size=2, embedding_size=2, scale=0.8)
    batch = tiny_batch(policy, lengths=(3, 2), targets=(2, 4))
    method = actor(samples=2)
    modules = method.build_modules(policy)
    nn.init.normal_(modules["critic"].output.weight)
    found = gradients(policy, method.loss(policy, batch, CLOCK, modules).total)
    ones = {name: torch.ones_like(gradient) for name, gradient in found.items()}
    judgment = method.judge(batch, CLOCK, modules, edit_distance)
    values = judgment.trace.logits(judgment.samples.mask).detach()

    def value(moved):
        own = judgment.samples
        total = 0.0
        for row, tokens in enumerate(tokens_of(own)):
            source = single(batch, int(own.rows[row])).source
            start = int(own.mask[:row].sum())
            for cell in range(len(tokens)):
                inputs = torch.tensor([[policy.vocabulary.bos, *tokens[:cell]]])
                probabilities = scores_after(moved, source, inputs).softmax(-1)
                total = total + (probabilities * values[start + cell]).sum() / 2
        return total

    slope = finite_difference(policy, value, ones)
    assert sum(float(g.sum()) for g in found.values()) == pytest.approx(slope, rel=1e-5)
    assert abs(slope) > 1e-4


@pytest.mark.parametrize(("name", "shared"), [("gpt2", True), ("bart", False), ("t5", True)])
def test_on_hugging_face_models(name, shared):
    """With dropout and checkpointing; the delayed policy is never in training mode."""
    policy = tiny_adapted(name, shared=shared, letters="abc", dropout=0.3)
    method, batch = actor(samples=2), text_batch(policy)
    modules = method.build_modules(policy)
    nn.init.normal_(modules["critic"].output.weight)
    before = method.loss(policy, batch, CLOCK, modules)
    policy.train()
    modules.train()
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    outcome = method.loss(policy, batch, CLOCK, modules)
    assert torch.equal(outcome.metrics["cost"], before.metrics["cost"])
    outcome.total.backward()
    for module in (policy, modules["critic"]):
        grown = [p.grad for p in module.parameters() if p.requires_grad and p.grad is not None]
        assert any(bool(gradient.any()) for gradient in grown)
        assert all(bool(gradient.isfinite().all()) for gradient in grown)
    method.after_update(policy, CLOCK, modules)


@pytest.mark.parametrize("name", ["recurrent", "gpt2", "t5"])
def test_a_model_in_half_precision(name):
    """Its copy moves in steps that are far below this precision."""
    policy = tiny_policy(4) if name == "recurrent" else tiny_adapted(name, letters="abc")
    batch = tiny_batch(policy) if name == "recurrent" else text_batch(policy)
    method = actor()
    policy.bfloat16()
    modules = method.build_modules(policy)
    outcome = method.loss(policy, batch, CLOCK, modules)
    outcome.total.backward()
    assert all(p.grad.isfinite().all() for p in policy.parameters() if p.grad is not None)
    delayed = next(iter(modules["delayed_policy"].parameters()))
    before, first = delayed.clone(), next(policy.parameters())
    torch.nn.init.constant_(first, 5.0)
    for step in range(3):
        method.after_update(policy, Clock(step + 1, total=9), modules)
    close(delayed, 5 - 0.99**3 * (5 - before), 1e-5)


def test_the_critic_starts_at_zero_and_reads_references():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    critic = build_critic(policy, 6)
    drawn = draw_samples(policy, batch, 2, CLOCK, stretch=1.5)
    assert not read_critic(critic, drawn, batch).logits(drawn.mask).any()
    nn.init.normal_(critic.output.weight)
    other = batch.select(torch.arange(4))
    other.target[:, 0] = (other.target[:, 0] + 1) % 3
    read = [read_critic(critic, drawn, given).logits(drawn.mask) for given in (batch, other)]
    assert not torch.equal(*read)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples is 0; it must be at least 1"),
        ({"pretraining": 1.5}, "pretraining is 1.5; it must be in [0, 1]"),
        ({"target_rate": -0.1}, "target_rate is -0.1; it must be in [0, 1]"),
        ({"penalty": -1.0}, "penalty is -1.0; it must be at least 0"),
        ({"log_loss": -1.0}, "log_loss is -1.0; it must be at least 0"),
        ({"critic_size": 0}, "critic_size is 0; it must be at least 1"),
        ({"critic_rate": 0.0}, "critic_rate is 0.0; it must be finite and above 0"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with raises(ValueError, message):
        ActorCritic(**settings)
