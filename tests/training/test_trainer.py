"""The Trainer, one process at a time."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import safetensors.torch
import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from freerun.errors import CheckpointError
from freerun.evaluation import Decoding, decode_hypotheses, evaluate, teacher_forced_loss
from freerun.losses import log_loss
from freerun.methods import MLE, Clock, Method, Modules, Outcome
from freerun.metrics import score
from freerun.models.backspace import with_backspace
from freerun.models.settings import RecurrentSettings
from freerun.settings import SettingError
from freerun.training import Trainer
from freerun.training.stream import Order
from tests.helpers import Log, raises
from tests.training.tiny_task import Strings, Tiny

TASK = Tiny()
DATA = TASK.load()


def policy(**settings):
    torch.manual_seed(0)
    return RecurrentSettings(hidden_size=8, embedding_size=8, **settings).build(DATA.codec)


def trainer(output, method=None, arguments=None, **members):
    arguments = {
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 2,
        "use_cpu": True,
        **(arguments or {}),
    }
    members = {
        "model": policy(),
        "processing_class": DATA.codec,
        "train_dataset": DATA.train,
        "eval_dataset": DATA.dev,
        "task": TASK,
        **members,
    }
    args = TrainingArguments(str(output), **arguments)
    return Trainer(method=method or MLE(), args=args, **members)


@dataclass(frozen=True)
class Spy(Method):
    """MLE that remembers what it saw; `spoil` makes the loss of an update infinite or so."""

    name: ClassVar[str] = "spy"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    clocks: list[Clock] = field(init=False, default_factory=Log)
    ids: list[list[int]] = field(init=False, default_factory=Log)
    spoil: dict[int, float] = field(default_factory=dict)

    def loss(self, policy, batch, clock, modules):
        self.clocks.append(clock)
        self.ids.append(batch.ids.tolist())
        found = MLE().loss(policy, batch, clock)
        return Outcome(found.total * self.spoil.get(clock.step, 1.0), found.count)


@dataclass(frozen=True)
class Averaged(Method):
    """MLE with a trained scale, a running mean of the output's bias, and a count of its calls."""

    name: ClassVar[str] = "averaged"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    steps: list[int] = field(default_factory=list)
    mean: torch.Tensor = field(default_factory=lambda: torch.zeros(5))

    def build_modules(self, policy):
        scale, copy = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.ones_(scale.weight)
        nn.init.zeros_(copy.weight)
        return Modules(trained={"scale": scale}, frozen={"copy": copy})

    def loss(self, policy, batch, clock, modules):
        found = MLE().loss(policy, batch, clock)
        return Outcome(found.total * modules["scale"].weight.sum(), found.count)

    def after_update(self, policy, clock, modules):
        self.steps.append(clock.step)
        self.mean.mul_(0.9).add_(policy.output.bias.detach(), alpha=0.1)
        with torch.no_grad():
            modules["copy"].weight.add_(modules["scale"].weight)

    def state_dict(self):
        return {"steps": self.steps, "mean": self.mean}

    def load_state_dict(self, state):
        self.steps[:] = state["steps"]
        self.mean.copy_(state["mean"])


def test_the_clock_goes_with_the_updates(tmp_path):
    spy = Spy()
    trainer(tmp_path, spy, {"gradient_accumulation_steps": 2}, horizon=40).train()
    assert spy.clocks == [Clock(step // 2, 40, 2) for step in range(12)]
    again = Spy()
    trainer(tmp_path, again).train()
    assert {clock.total for clock in again.clocks} == {6}


def test_small_data_fill_every_batch(tmp_path):
    spy = Spy()
    three = Strings(((0,), (1, 2), (3,)), 4, [])
    trainer(tmp_path, spy, {"max_steps": 3}, train_dataset=three).train()
    assert [len(ids) for ids in spy.ids] == [4, 4, 4]
    seen = [number for ids in spy.ids for number in ids]
    for start in (0, 3, 6, 9):
        assert sorted(seen[start : start + 3]) == [0, 1, 2]


@pytest.mark.parametrize(("batch", "accumulation", "updates"), [(10, 1, 10), (8, 2, 7), (50, 1, 2)])
def test_epochs_are_turned_into_updates(tmp_path, batch, accumulation, updates):
    arguments = {
        "max_steps": -1,
        "num_train_epochs": 2,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
    }
    spy = Spy()
    found = trainer(tmp_path, spy, arguments)
    found.train()
    assert found.state.global_step == updates
    assert {clock.total for clock in spy.clocks} == {updates}
    assert sum(map(len, spy.ids)) == updates * batch * accumulation


def test_items_of_an_update_are_its_target_tokens(tmp_path):
    batches = [DATA.train.batch(numbers).tensors() for numbers in ([0, 1], [2])]
    expected = sum(len(DATA.train.references[i]) + 1 for i in range(3))
    count = trainer(tmp_path)._get_num_items_in_batch(batches, torch.device("cpu"))
    assert int(count) == expected


def test_the_logged_loss_is_the_mean_per_token(tmp_path):
    # One update: what is logged is the loss before it.
    arguments = {"max_steps": 1, "logging_steps": 1, "gradient_accumulation_steps": 3}
    spy = Spy()
    found = trainer(tmp_path, spy, arguments)
    found.train()
    batch = DATA.train.batch([number for ids in spy.ids for number in ids])
    before = MLE().loss(policy(), batch, Clock())
    expected = float(before.total.detach() / before.count)
    assert found.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "decoding", [Decoding(), Decoding(beam=3), Decoding(sample=True, temperature=2.0, seed=3)]
)
def test_evaluation_runs_freely_and_names_what_does_not(tmp_path, decoding):
    found = trainer(
        tmp_path, arguments={"per_device_eval_batch_size": 5}, decoding=decoding, model=policy()
    )
    found.train()
    metrics = found.evaluate()
    model = found.objective.model
    expected = evaluate(model, TASK, DATA.codec, DATA.dev, decoding=decoding).metrics
    loss = teacher_forced_loss(model, DATA.dev)
    assert metrics == {
        **{f"eval_{name}": value for name, value in expected.items()},
        "eval_teacher_forced_loss": pytest.approx(loss, rel=1e-5),
    }
    other = found.evaluate(DATA.test, metric_key_prefix="test")
    assert other["test_teacher_forced_loss"] == pytest.approx(
        teacher_forced_loss(model, DATA.test), rel=1e-5
    )


def test_a_decoding_that_cannot_be_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"^beam search cannot withdraw tokens, and this vocab"):
        trainer(tmp_path, model=with_backspace(policy()), decoding=Decoding(beam=2))


def test_evaluation_does_not_disturb_training(tmp_path):
    weights = []
    for every in (1, 100):
        arguments = {"eval_strategy": "steps", "eval_steps": every}
        found = trainer(tmp_path, arguments=arguments, model=policy(dropout=0.5))
        found.train()
        weights.append(found.objective.model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("greater_is_better", [False, True])
def test_the_best_checkpoint_is_the_best(tmp_path, greater_is_better):
    arguments = {
        "max_steps": 20,
        "learning_rate": 0.05,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "teacher_forced_loss",
        "greater_is_better": greater_is_better,
    }
    found = trainer(tmp_path, arguments=arguments)
    found.train()
    losses = {
        entry["step"]: entry["eval_teacher_forced_loss"]
        for entry in found.state.log_history
        if "eval_teacher_forced_loss" in entry
    }
    best = (max if greater_is_better else min)(losses, key=losses.__getitem__)
    assert len(losses) == 10
    assert found.state.best_global_step == best
    assert teacher_forced_loss(found.objective.model, DATA.dev) == pytest.approx(losses[best])
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    # The best and the newest; where they are one, the one before it too.
    assert kept == sorted({f"checkpoint-{best}", "checkpoint-20"} | ({"checkpoint-18"} & set(kept)))
    assert len(kept) == 2
    assert len(set(losses.values())) == 10


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1, 0.75, 0.5, 0.25, 0, 0, 0]),
        ("cosine", [(1 + math.cos(math.pi * min(i, 4) / 4)) / 2 for i in range(7)]),
        ("constant", [1] * 7),
    ],
)
def test_schedules_of_the_learning_rate_stay_at_their_end(tmp_path, schedule, expected):
    rates = []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer, **kwargs):
            rates.append(optimizer.param_groups[0]["lr"])

    arguments = {"max_steps": 7, "lr_scheduler_type": schedule, "learning_rate": 1e-3}
    trainer(tmp_path, arguments=arguments, horizon=4, callbacks=[Watch()]).train()
    assert rates == pytest.approx([rate * 1e-3 for rate in expected])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, value):
    arguments = {"save_strategy": "steps", "save_steps": 1}
    found = trainer(tmp_path, Spy(spoil={3: value}), arguments)
    message = (
        f"the loss is {value} at update 4; lower the learning rate, clip gradients, "
        "or look at the data"
    )
    with pytest.raises(FloatingPointError, match=f"^{message}$"):
        found.train()
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    for path in tmp_path.glob("checkpoint-*/model.safetensors"):
        assert all(value.isfinite().all() for value in safetensors.torch.load_file(path).values())


def test_a_gradient_that_is_no_number_stops_the_run(tmp_path):
    class Root(Spy):
        def loss(self, policy, batch, clock, modules):
            found = super().loss(policy, batch, clock, modules)
            weight = policy.output.bias.sum() * 0.0
            return Outcome(found.total + weight.sqrt(), found.count)

    with pytest.raises(FloatingPointError, match=r"^the gradient's norm is nan at update 1; "):
        trainer(tmp_path, Root()).train()


def test_state_of_a_method_survives(tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    method = Averaged()
    found = trainer(tmp_path, method, arguments)
    found.train()
    whole = found.objective.method
    assert whole.steps == [0, 1, 2, 3, 4, 5]
    assert found.objective.method_modules["scale"].weight.item() != 1.0
    assert method.steps == []  # The run has a copy of its own.
    resumed = trainer(tmp_path, method, arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.objective.method.steps == whole.steps
    assert torch.equal(resumed.objective.method.mean, whole.mean)
    own = found.objective.state_dict()
    assert all(torch.equal(own[k], v) for k, v in resumed.objective.state_dict().items())


@dataclass(frozen=True)
class FirstTokens(Method):
    """The log loss of the first token of every target; the policy is drawn to a critic's weight."""

    name: ClassVar[str] = "first_tokens"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    def build_modules(self, policy):
        critic, target = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        return Modules({"critic": critic}, {"target": target}, {"critic": 0.5})

    def loss(self, policy, batch, clock, modules):
        scores = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
        first = torch.zeros_like(batch.mask)
        first[:, 0] = True
        count = first.sum()
        total = log_loss(scores.logits(first), batch.target[:, 0])
        return Outcome(
            total + modules["critic"].weight.sum() * count, count, {"one": count / count}
        )


@pytest.mark.parametrize(("batch_size", "accumulation"), [(8, 1), (2, 4)])
def test_the_loss_is_divided_by_what_the_method_counts(tmp_path, batch_size, accumulation):
    """A method that learns less than the targets: a mean of its own terms, however split."""
    model, seen = policy().double(), Log()

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            seen.append([p.grad.clone() for p in model.model.parameters() if p.grad is not None])

    arguments = {
        "max_steps": 1,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": accumulation,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
    }
    method = FirstTokens()
    found = trainer(tmp_path, method, arguments, model=model, callbacks=[Watch()])
    before = copy.deepcopy(found.objective).train()
    found.train()
    batch = DATA.train.batch(list(Order(len(DATA.train), 8, seed=2)))
    outcome = method.loss(before.model, batch, Clock(0, 1, 2), before.method_modules)
    mean = outcome.total / 8
    mean.backward()
    assert found.state.log_history[0]["loss"] == pytest.approx(mean.item(), rel=1e-6)
    wanted = [p.grad for p in before.model.parameters() if p.grad is not None]
    assert len(seen) == 1
    for gradient, same in zip(seen[0], wanted, strict=True):
        torch.testing.assert_close(gradient, same, rtol=0, atol=1e-9)


def test_modules_have_their_own_learning_rate(tmp_path):
    """By SGD: each weight moves by its rate times its gradient, under one schedule."""
    rates = Log()

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer, **kwargs):
            rates.append([group["lr"] for group in optimizer.param_groups if group["params"]])

    arguments = {"max_steps": 2, "lr_scheduler_type": "linear", "weight_decay": 0.0}
    sgd = (torch.optim.SGD, {"lr": 0.01})
    found = trainer(
        tmp_path, FirstTokens(), arguments, optimizer_cls_and_kwargs=sgd, callbacks=[Watch()]
    )
    modules = found.objective.method_modules
    start = {name: modules[name].weight.item() for name in ("critic", "target")}
    found.train()
    assert sorted({*rates[0]}) == pytest.approx([0.01, 0.5])
    assert sorted({*rates[1]}) == pytest.approx([0.005, 0.25])
    # The gradient of the critic's weight is 1, and no norm is above the limit of clipping.
    moved = start["critic"] - modules["critic"].weight.item()
    assert 0.5 < moved <= 0.75 + 1e-6
    assert modules["target"].weight.item() == start["target"]


def test_modules_of_runs_differ_by_seed_and_resume_to_the_bit(tmp_path):
    method, finals = FirstTokens(), {}
    for seed in (2, 3):
        arguments = {"seed": seed, "save_strategy": "steps", "save_steps": 3}
        torch.manual_seed(77)  # The state of the generator before a run has no part in it.
        whole = trainer(tmp_path / str(seed), method, arguments)
        whole.train()
        finals[seed] = whole.objective.method_modules.state_dict()
        resumed = trainer(tmp_path / str(seed), method, arguments)
        resumed.train(resume_from_checkpoint=str(tmp_path / str(seed) / "checkpoint-3"))
        again = resumed.objective.state_dict()
        assert all(torch.equal(again[k], v) for k, v in whole.objective.state_dict().items())
    assert not torch.equal(finals[2]["frozen.target.weight"], finals[3]["frozen.target.weight"])
    assert not torch.equal(finals[2]["trained.critic.weight"], finals[3]["trained.critic.weight"])


def test_checkpoints_hold_nothing_that_is_unpickled(tmp_path):
    trainer(tmp_path, Averaged(), {"save_strategy": "steps", "save_steps": 6}).train()
    folder = tmp_path / "checkpoint-6"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "codec.json",
        "config.json",
        "freerun.json",
        "method.json",
        "method.safetensors",
        "model.safetensors",
        "objective.safetensors",
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    ]
    for path in (*folder.glob("*.pt"), *folder.glob("*.pth")):
        torch.load(path, weights_only=True)
    trainer(tmp_path).save_model(str(tmp_path / "by hand"))
    names = sorted(path.name for path in (tmp_path / "by hand").iterdir())
    assert names == ["README.md", "SHA256SUMS", "codec.json", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "objective.safetensors",
        "method.safetensors",
        "method.json",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
    ],
)
@pytest.mark.parametrize("harm", ["truncated", "missing"])
def test_damaged_checkpoints_are_named(tmp_path, name, harm):
    trainer(tmp_path, Averaged(), {"save_strategy": "steps", "save_steps": 3}).train()
    path = tmp_path / "checkpoint-3" / name
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: "):
        trainer(tmp_path, Averaged()).train(resume_from_checkpoint=str(path.parent))


def test_weights_of_another_method_are_refused(tmp_path, monkeypatch):
    trainer(tmp_path, Averaged(), {"save_strategy": "steps", "save_steps": 6}).train()
    build = Averaged.build_modules
    others = {"build_modules": lambda *args: Modules(trained={"shift": build(*args)["scale"]})}
    for name, value in others.items():  # as if its file had been edited
        monkeypatch.setattr(Averaged, name, value)
    path = tmp_path / "checkpoint-6"
    differs = "method_modules.frozen.copy.weight differs"
    message = f"{path / 'objective.safetensors'}: of another method: {differs}"
    with raises(CheckpointError, message):
        trainer(tmp_path, Averaged()).train(resume_from_checkpoint=str(path))


def test_nothing_to_resume_from(tmp_path):
    message = f"{tmp_path}: there is no checkpoint to resume from"
    with raises(CheckpointError, message):
        trainer(tmp_path).train(resume_from_checkpoint=True)


def test_resuming_a_run_that_was_over_changes_nothing(tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 3}
    found = trainer(tmp_path, Spy(), arguments)
    found.train()
    spy = Spy()
    again = trainer(tmp_path, spy, arguments)
    again.train(resume_from_checkpoint=True)
    assert spy.clocks == []
    own = found.objective.state_dict()
    assert all(torch.equal(own[k], v) for k, v in again.objective.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "members", "message"),
    [
        ({"label_smoothing_factor": 0.1}, {},
         "label_smoothing_factor=0.1 is not supported: MLE has label_smoothing"),
        ({"push_to_hub": True}, {},
         "push_to_hub=True is not supported: push the policy itself, once it is trained"),
        ({"train_sampling_strategy": "group_by_length"}, {},
         "train_sampling_strategy=group_by_length is not supported: every epoch has its own "
         "random order"),
        ({"average_tokens_across_devices": False}, {},
         "average_tokens_across_devices=False is not supported: a loss is a mean over the "
         "tokens of all processes"),
        ({"neftune_noise_alpha": 5.0}, {},
         "neftune_noise_alpha=5.0 is not supported: own tokens are written without noise; use "
         "dropout"),
        ({"activation_checkpointing_kwargs": {"use_reentrant": True}}, {},
         "activation_checkpointing_kwargs: use_reentrant=True is not supported, as a policy may "
         "run several times in an update; leave it out"),
        ({}, {"train_dataset": Strings((), 4, [])}, "there are no examples to train on"),
        ({}, {"eval_dataset": Strings((), 4, [])}, "there are no examples to evaluate on"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused(tmp_path, arguments, members, message):
    with raises(ValueError, message):
        trainer(tmp_path, arguments=arguments, **members)


def test_the_order_may_have_a_seed_of_its_own(tmp_path):
    orders = []
    for settings in ({}, {"data_seed": 2}, {"data_seed": 3}):
        spy = Spy()
        trainer(tmp_path, spy, settings).train()
        orders.append(spy.ids)
    assert orders[0] == orders[1] != orders[2]


def test_seconds_go_on_after_a_resumption(tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 3}
    trainer(tmp_path, arguments=arguments).train()
    path = tmp_path / "checkpoint-3" / "trainer_state.json"
    state = json.loads(path.read_text())
    meter = state["stateful_callbacks"]["Meter"]["attributes"]
    assert meter["updates"] == 3
    meter["seconds"] = 1000.0
    path.write_text(json.dumps(state))
    (path.parent / "SHA256SUMS").unlink()
    resumed = trainer(tmp_path, arguments=arguments)
    resumed.train(resume_from_checkpoint=str(path.parent))
    assert resumed.meter.updates == 6
    assert 1000.0 < resumed.meter.seconds < 1100.0
    spent = trainer(tmp_path, arguments=arguments, budget=1000.0)
    spent.train(resume_from_checkpoint=str(path.parent))
    assert spent.state.global_step == 4


def test_callbacks_and_checkpoints_have_epochs_of_the_data(tmp_path):
    class Epochs(TrainerCallback):
        found: ClassVar[list[float]] = []

        def on_step_end(self, args, state, control, **kwargs):
            self.found.append(state.epoch)

    arguments = {"save_strategy": "steps", "save_steps": 3}
    trainer(tmp_path, arguments=arguments, callbacks=[Epochs()]).train()
    expected = [step * 4 / len(DATA.train) for step in range(1, 7)]
    assert Epochs.found == expected
    for step in (3, 6):
        state = json.loads((tmp_path / f"checkpoint-{step}" / "trainer_state.json").read_text())
        assert state["epoch"] == expected[step - 1]


def test_dropout_does_not_depend_on_what_draws_before_training(tmp_path):
    weights = []
    for draws in (0, 3):
        found = trainer(tmp_path, model=policy(dropout=0.5))
        torch.rand(draws)
        found.train()
        weights.append(torch.cat([p.detach().flatten() for p in found.objective.parameters()]))
    assert torch.equal(*weights)


def test_an_update_that_counts_nothing_is_an_error(tmp_path):
    class Empty(MLE):
        def loss(self, *arguments):
            outcome = super().loss(*arguments)
            return Outcome(outcome.total * 0, outcome.count * 0)

    message = "Empty.loss: the counts of update 1 add up to 0; the sum must be above 0"
    with raises(SettingError, message):
        trainer(tmp_path, Empty(), {"gradient_accumulation_steps": 2}).train()


def test_evaluation_needs_something_to_evaluate_on(tmp_path):
    with pytest.raises(ValueError, match=r"^evaluation needs an eval_dataset$"):
        trainer(tmp_path, eval_dataset=None).evaluate()
    with pytest.raises(
        NotImplementedError, match=r"use freerun\.evaluation\.evaluate or decode_examples, or "
    ):
        trainer(tmp_path).predict(DATA.dev)


def test_learns_to_read_backwards(tmp_path):
    arguments = {"max_steps": 150, "per_device_train_batch_size": 32, "learning_rate": 0.02}
    model = RecurrentSettings(hidden_size=24, embedding_size=8, attention="general").build(
        DATA.codec
    )
    data = Tiny(train=300)
    examples = data.load().train
    trainer(tmp_path, arguments=arguments, model=model, train_dataset=examples).train()
    written = decode_hypotheses(model, DATA.test)
    assert score(TASK.get_metrics(), DATA.codec, written, DATA.test)["character_error"] < 0.1


def test_path_of_a_run_may_change(tmp_path):
    arguments = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "teacher_forced_loss",
        "greater_is_better": True,
        "max_steps": 4,
    }
    first = trainer(tmp_path / "here", arguments=arguments)
    first.train()
    assert first.state.best_global_step == 2
    Path(tmp_path / "here").rename(tmp_path / "there")
    longer = trainer(tmp_path / "there", arguments={**arguments, "max_steps": 6})
    longer.train(resume_from_checkpoint=True)
    assert longer.state.best_model_checkpoint == str(tmp_path / "there" / "checkpoint-2")


def test_a_lost_process_is_not_blamed_on_the_disk(tmp_path, monkeypatch):
    saved = trainer(tmp_path, arguments={"save_strategy": "steps", "save_steps": 3})

    def lost():
        if saved.state.global_step == 3:
            raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(saved.accelerator, "wait_for_everyone", lost)
    with pytest.raises(RuntimeError, match=r"^Connection closed by peer$"):
        saved.train()
    assert not (tmp_path / "checkpoint-3").exists()
