"""Policy and method as one module."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from freerun.decoding import greedy
from freerun.evaluation import Decoding, teacher_forced_total
from freerun.methods import (
    MLE,
    Clock,
    DifferentiableScheduledSampling,
    Method,
    Modules,
    Outcome,
)
from freerun.models.settings import RecurrentSettings
from freerun.settings import SettingError
from freerun.training import Objective
from tests.helpers import raises
from tests.training.tiny_task import Strings, Tiny

DATA = Tiny().load()


def policy(**settings):
    return RecurrentSettings(hidden_size=8, embedding_size=8, **settings).build(DATA.codec)


@dataclass(frozen=True)
class Critic(Method):
    """A method with a trained module and a frozen one, and metrics weighted by its count."""

    name: ClassVar[str] = "critic"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    values: list[float] = field(default_factory=list)

    def build_modules(self, policy):
        target = nn.Sequential(nn.Linear(3, 1), nn.Dropout())
        return Modules(trained={"critic": nn.Linear(3, 1)}, frozen={"target": target})

    def loss(self, policy, batch, clock, modules):
        metrics = {"value": torch.tensor(self.values.pop(0))} if self.values else {}
        return Outcome(modules["critic"].weight.sum() * 2.0, batch.mask.sum(), metrics)


def test_the_loss_is_the_sum_over_the_tokens_of_the_update():
    objective, batch = Objective(policy(), MLE()), DATA.train.batch(range(5))
    total = MLE().loss(objective.model, batch, Clock()).total
    for items, expected in ((None, int(batch.mask.sum())), (40, 40), (torch.tensor(7), 7)):
        loss = objective(**batch.tensors(), num_items_in_batch=items)["loss"]
        torch.testing.assert_close(loss, total / expected)


def test_the_method_reads_the_clock():
    method = DifferentiableScheduledSampling(alpha=1.0, alpha_end=100.0)
    objective = Objective(policy(), method)
    objective.clock = Clock(step=50, total=100)
    objective(**DATA.train.batch(range(5)).tensors())
    total, count = objective.drain()["alpha"]
    assert total / count == pytest.approx(10)


def test_decoding_is_free_running_without_gradient_or_dropout():
    objective, batch = Objective(policy(dropout=0.5), MLE()), DATA.train.batch(range(9))
    found = objective(**batch.tensors(), decoding=Decoding())
    assert torch.equal(found["decoded"].tokens, greedy(objective.model, batch.source).tokens)
    expected = teacher_forced_total(objective.model.eval(), batch).detach()
    assert float(found["teacher_forced"]) == pytest.approx(float(expected))
    assert not found["teacher_forced"].requires_grad
    beam = objective(**batch.tensors(), decoding=Decoding(beam=3))["decoded"]
    assert (beam.log_probs >= found["decoded"].log_probs - 1e-5).all()


def test_an_example_without_target_tokens_is_an_error():
    objective = Objective(policy(), MLE())
    tensors = Strings(((0, 1), (2,), (3, 3)), None, []).batch([2, 1]).tensors()
    tensors["target_mask"][1] = False
    message = (
        r"^example 1 has no target tokens, so there is nothing to learn from it; "
        r"leave it out of the data$"
    )
    with pytest.raises(ValueError, match=message):
        objective(**tensors)


def test_a_loss_that_is_no_outcome_is_an_error():
    class Bare(MLE):
        def loss(self, *arguments):
            return super().loss(*arguments).total

    message = r"^Bare\.loss returned a Tensor; it must return an Outcome$"
    with pytest.raises(SettingError, match=message):
        Objective(policy(), Bare())(**DATA.train.batch(range(2)).tensors())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total": 2.0}, "total is of type float; it must be a tensor without dimensions"),
        ({"total": torch.ones(1)},
         "total is a tensor of shape (1,); it must be a tensor without dimensions"),
        ({"count": torch.ones(2)},
         "count is a tensor of shape (2,); it must be a number or a tensor without dimensions"),
        ({"metrics": [1.0]}, "metrics is of type list; it must be a dictionary"),
        ({"metrics": {"a": torch.ones(2, 3)}},
         "the metric 'a' is a tensor of shape (2, 3); it must be a number or a tensor without "
         "dimensions"),
        ({"metrics": {"a": None}}, "the metric 'a' is of type NoneType; it must be a number or a "
         "tensor without dimensions"),
        *(
            ({"metrics": {name: 1.0}},
             f"the metric {name!r} has a name that the log uses itself; choose another name")
            for name in ("loss", "grad_norm", "learning_rate", "epoch", "step", "eval_a")
        ),
    ],
)  # fmt: skip
def test_an_outcome_that_cannot_be_used_is_an_error(unchecked, changes, message):
    class Wrong(MLE):
        def loss(self, *arguments):
            return replace(super().loss(*arguments), **changes)

    with raises(SettingError, f"Wrong.loss: {message}"):
        Objective(policy(), Wrong())(**DATA.train.batch(range(2)).tensors())


def test_counts_and_metrics_may_be_plain_numbers():
    class Plain(MLE):
        def loss(self, *arguments):
            outcome = super().loss(*arguments)
            return replace(outcome, count=int(outcome.count), metrics={"a": 3, "b": 0.5})

    tensors = DATA.train.batch(range(2)).tensors()
    plain, usual = (Objective(policy(), method) for method in (Plain(), MLE()))
    count = int(tensors["target_mask"].sum())
    plain.model.load_state_dict(usual.model.state_dict())
    assert torch.equal(plain(**tensors)["loss"], usual(**tensors)["loss"])
    assert int(plain.take_count()) == count
    assert plain.drain() == {"a": (3.0 * count, count), "b": (0.5 * count, count)}


def test_a_loss_without_a_gradient_is_an_error():
    class Constant(MLE):
        def loss(self, *arguments):
            outcome = super().loss(*arguments)
            return replace(outcome, total=outcome.total.detach())

    tensors = DATA.train.batch(range(2)).tensors()
    message = r"^Constant\.loss has no gradient: it depends on no trained weight$"
    with pytest.raises(SettingError, match=message):
        Objective(policy(), Constant())(**tensors)
    with torch.no_grad():
        assert Objective(policy(), Constant())(**tensors)["loss"] > 0


def test_trained_modules_have_a_gradient_and_frozen_ones_have_none():
    objective = Objective(policy(), Critic())
    objective(**DATA.train.batch([0]).tensors())["loss"].backward()
    modules = objective.method_modules
    assert modules["critic"].weight.grad is not None
    assert not any(parameter.requires_grad for parameter in modules["target"].parameters())
    objective.train()
    assert objective.model.training
    assert modules["critic"].training
    assert not modules["target"].training


def test_modules_are_drawn_from_the_seed_alone():
    model = policy()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (Objective(model, Critic(), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("critic", "target"):
        weights = [next(one.method_modules[name].parameters()) for one in (first, same, other)]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])


def test_the_objective_has_a_copy_of_the_method():
    method = Critic(values=[1.0])
    objective = Objective(policy(), method)
    objective(**DATA.train.batch([0]).tensors())
    assert method.values == [1.0]
    assert objective.method.values == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trained": {"a": nn.Linear(1, 1)}, "frozen": {"a": nn.Linear(1, 1)}},
         "module 'a' is both trained and frozen"),
        ({"frozen": {"a": nn.Linear(1, 1)}, "learning_rates": {"a": 1.0}},
         "learning_rates has 'a', which is not a trained module"),
        ({"trained": {"a": nn.Linear(1, 1)}, "learning_rates": {"a": 0.0}},
         "the learning rate of 'a' is 0.0; it must be above 0"),
    ],
)  # fmt: skip
def test_wrong_modules_are_refused(arguments, message):
    with raises(ValueError, message):
        Modules(**arguments)


def test_metrics_are_weighted_by_tokens():
    objective = Objective(policy(), Critic(values=[1.0, 4.0]))
    # Two tokens with eos, then three, then a batch that tells nothing.
    examples = Strings(((0,), (0, 1)), 4, [])
    for numbers in ([0], [1], [0, 1]):
        objective(**examples.batch(numbers).tensors())
    assert objective.drain() == {"value": (1.0 * 2 + 4.0 * 3, 5.0)}
    assert objective.drain() == {}


def test_the_configuration_is_a_copy():
    model = policy()
    objective = Objective(model, MLE())
    objective.config.use_cache = False
    assert objective.config.hidden_size == 8
    assert not hasattr(model.config, "use_cache")


def test_what_transformers_asks_of_a_model_is_the_policys():
    model = policy()
    model._no_split_modules = ["Decoder"]
    objective = Objective(model, MLE())
    assert objective.accepts_loss_kwargs
    assert objective._no_split_modules == ["Decoder"]
    assert objective.main_input_name == "source"
    assert objective.device == model.device
    with pytest.raises(ValueError, match="does not support activation checkpointing"):
        objective.activation_checkpointing_enable()
    with pytest.raises(AttributeError, match="nonsense"):
        _ = objective.nonsense
