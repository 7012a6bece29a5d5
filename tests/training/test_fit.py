"""One run, from settings to a trained policy in a folder."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import ClassVar

import pytest
import torch

from freerun.data import DataError
from freerun.errors import CheckpointError
from freerun.evaluation import evaluate, teacher_forced_loss
from freerun.methods import MLE, DifferentiableScheduledSampling, Method, Outcome, ScheduledSampling
from freerun.models.settings import (
    CausalSettings,
    PretrainedSettings,
    RecurrentSettings,
    Seq2SeqSettings,
)
from freerun.training import TrainingSettings, fit, load_policy
from freerun.training.folders import checkpoints
from freerun.training.horizon import estimate_horizon
from freerun.training.record import build_curve, digest_codec
from freerun.training.resolve import resolve
from tests.helpers import Log, edit_record, keeping_checkpoints, raises
from tests.training.tiny_task import Tiny, TinyCodec

TASK = Tiny()
DATA = TASK.load()
MODEL = RecurrentSettings(hidden_size=8, embedding_size=6)
TRANSFORMERS = [
    kind(hidden_size=8, layers=1, heads=2) for kind in (CausalSettings, Seq2SeqSettings)
]
TRAINING = TrainingSettings(
    updates=8, evaluate_every=2, batch_size=8, learning_rate=0.02, threads=1, seed=1
)


def run(output, method=None, *, task=TASK, data=DATA, model=MODEL, training=TRAINING, **members):
    return fit(
        task,
        data,
        method or MLE(),
        model=model,
        training=training,
        output=output,
        quiet=True,
        **members,
    )


def changed(**settings):
    return replace(TRAINING, **settings)


@dataclass(frozen=True)
class Worse(Method):
    """MLE that begins to unlearn at an update, and counts its updates."""

    name: ClassVar[str] = "worse"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    after: int = 4
    steps: list[int] = field(init=False, default_factory=Log)

    @property
    def updates(self):
        return len(self.steps)

    def loss(self, policy, batch, clock, modules):
        self.steps.append(clock.step)
        found = MLE().loss(policy, batch, clock)
        return Outcome(found.total * (1.0 if clock.step < self.after else -1.0), found.count)


def test_a_run_leaves_a_policy_and_its_record(tmp_path):
    method = ScheduledSampling(schedule="constant", k=0.5)
    found = run(tmp_path / "deep" / "run", method)
    policy, codec = load_policy(tmp_path / "deep" / "run", TinyCodec)
    assert codec == DATA.codec
    own = found.policy.state_dict()
    assert all(torch.equal(own[name], value) for name, value in policy.state_dict().items())
    assert not found.policy.training
    assert [point["update"] for point in found.curve] == [2, 4, 6, 8]
    seconds = [point["seconds"] for point in found.curve]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert seconds[-1] <= found.seconds
    assert 0 < found.seconds_per_update < found.seconds
    assert found.updates == 8
    record = json.loads((tmp_path / "deep" / "run" / "freerun.json").read_text())
    assert record["task"]["name"] == "tests.training.tiny_task:Tiny"
    assert record["task"]["settings"] == {
        "metrics": [], "headline": None, "letters": 4,
        "longest": 5, "train": 50, "dev": 13, "eos": True,
    }  # fmt: skip
    (variant,) = record["methods"].values()
    assert variant["method"] == "scheduled_sampling"
    assert variant["settings"]["k"] == 0.5
    assert record["seeds"] == [1]
    assert record["codec"] == digest_codec(DATA.codec)
    assert record["model"]["hidden_size"] == 8
    assert record["training"]["learning_rate"] == 0.02
    assert record["examples"] == {"train": 50, "dev": 13, "test": 13}
    assert record["versions"]["torch"] == version("torch")
    assert record["horizon"] == 8
    assert record["results"]["dev"] == found.dev
    assert record["results"]["curve"] == found.curve
    assert sorted(
        path.name for path in (tmp_path / "deep" / "run").iterdir() if path.is_file()
    ) == [
        "README.md",
        "SHA256SUMS",
        "codec.json",
        "config.json",
        "freerun.json",
        "model.safetensors",
    ]


def test_the_model_that_is_kept_is_the_best_on_dev(tmp_path):
    task = Tiny(train=200, dev=40)
    data = task.load()
    training = changed(updates=60, evaluate_every=6, learning_rate=0.03)
    model = RecurrentSettings(hidden_size=16, embedding_size=8, attention="general")
    for keep in ("best", "last"):
        found = run(
            tmp_path / keep,
            Worse(after=30),
            task=task,
            data=data,
            model=model,
            training=replace(training, keep=keep),
        )
        errors = {point["update"]: point["character_error"] for point in found.curve}
        best = min(errors, key=errors.__getitem__)
        assert 0 < best <= 36
        assert found.best_update == best
        kept = best if keep == "best" else 60
        metrics = evaluate(found.policy, task, data.codec, data.dev).metrics
        loss = teacher_forced_loss(found.policy, data.dev)
        assert found.dev == {**metrics, "teacher_forced_loss": pytest.approx(loss, rel=1e-5)}
        assert found.dev["character_error"] == errors[kept]
    assert errors[60] > errors[best]


def test_the_loss_of_a_curve_is_the_mean_between_evaluations():
    history = [
        {"loss": 4.0, "step": 50},
        {"loss": 2.0, "step": 60, "own_share": 0.1},
        {"eval_error": 0.5, "seconds": 1.0, "step": 60},
        {"loss": 1.0, "step": 100},
        {"loss": 0.5, "step": 120},
        {"eval_error": 0.25, "seconds": 2.0, "step": 120},
        {"train_runtime": 3.0, "train_loss": 1.0, "step": 120},
    ]
    assert build_curve(history) == [
        {"update": 60, "seconds": 1.0, "loss": (4.0 * 50 + 2.0 * 10) / 60, "error": 0.5},
        {"update": 120, "seconds": 2.0, "loss": (1.0 * 40 + 0.5 * 20) / 60, "error": 0.25},
    ]


def test_a_finished_run_is_only_loaded(tmp_path):
    first, again = Worse(), Worse()
    found = run(tmp_path, first)
    same = run(tmp_path, again)
    assert first.updates == 8
    assert again.updates == 0
    assert replace(same, policy=found.policy) == found


def test_runs_of_one_seed_start_from_equal_weights(tmp_path):
    starts = []

    class First(Worse):
        def loss(self, policy, batch, clock, modules):
            if clock.step == 0:
                starts.append({k: v.clone() for k, v in policy.state_dict().items()})
            return super().loss(policy, batch, clock, modules)

    for name, seed, after in (("a", 1, 4), ("b", 1, 8), ("c", 2, 4)):
        torch.manual_seed(len(name))
        torch.rand(len(starts))
        run(tmp_path / name, First(after=after), training=changed(seed=seed))
    assert all(torch.equal(starts[0][name], value) for name, value in starts[1].items())
    assert not any(torch.equal(starts[0][name], value) for name, value in starts[2].items())


@pytest.mark.parametrize(
    "settings",
    [
        {"updates": 6},
        {"batch_size": 4},
        {"accumulation": 2},
        {"learning_rate": 0.01},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"weight_decay": 0.1},
        {"optimizer": "sgd"},
        {"optimizer": "rmsprop"},
        {"optimizer": "rmsprop", "momentum": 0.5},
        {"lr_schedule": "linear"},
        {"lr_schedule": "cosine"},
        {"lr_schedule": "inverse_sqrt", "warmup": 2.0},
        {"warmup": 4.0},
        {"warmup": 0.25},
        {"clip": 0.001},
        {"precision": "bf16"},
        {"seed": 2},
    ],
    ids=str,
)
def test_every_setting_has_an_effect_on_the_weights(tmp_path, plain, settings):
    found = run(tmp_path, training=changed(keep="last", **settings)).policy.state_dict()
    assert any(not torch.equal(plain[name], value) for name, value in found.items())
    assert all(value.isfinite().all() for value in found.values())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(tmp_path_factory.mktemp("plain"), training=changed(keep="last")).policy.state_dict()


@pytest.mark.kernels
def test_half_precision_is_nearly_the_same(tmp_path, plain):
    found = run(tmp_path, training=changed(keep="last", precision="bf16")).policy.state_dict()
    for name, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, plain[name], rtol=0, atol=0.1)


@pytest.mark.kernels
@pytest.mark.parametrize("feedback", ["soft_argmax", "soft_sample"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_half_precision_reaches_every_module(tmp_path, cell, feedback):
    model = RecurrentSettings(
        cell=cell,
        hidden_size=8,
        embedding_size=6,
        layers=2,
        bidirectional=True,
        attention="additive",
        input_feeding=True,
        dropout=0.1,
    )
    method = DifferentiableScheduledSampling(relaxation=feedback, schedule="constant", k=0.5)
    training = changed(precision="bf16", updates=2)
    found = run(tmp_path, method, model=model, training=training)
    assert found.curve[-1]["loss"] > 0


def test_patience(tmp_path):
    method = Worse(after=4)
    training = changed(updates=100, patience=3, keep="last")
    found = run(tmp_path, method, training=training)
    errors = [point["character_error"] for point in found.curve]
    best = errors.index(min(errors))
    assert len(errors) == best + 4
    assert found.updates == found.curve[-1]["update"] == method.updates < 100


def test_a_run_that_was_stopped_early_is_not_taken_up_again(keep_checkpoints, tmp_path):
    training = changed(updates=100, patience=2)
    first = run(tmp_path, Worse(after=4), training=training)
    # As if it had been killed before the model was saved.
    edit_record(tmp_path / "freerun.json", results=None)
    method = Worse(after=4)
    again = run(tmp_path, method, training=training)
    assert method.updates == 0
    assert replace(again, policy=first.policy) == first
    own = first.policy.state_dict()
    assert all(torch.equal(own[k], v) for k, v in again.policy.state_dict().items())


def test_budget(tmp_path):
    training = changed(budget=0.5, updates=1, evaluate_every=10_000, lr_schedule="linear")
    found = run(tmp_path, Worse(after=10**9), training=training)
    assert 0.5 <= found.seconds < 1.0
    # One evaluation, at the end.
    assert [point["update"] for point in found.curve] == [found.updates]
    assert found.updates > 5
    horizon = json.loads((tmp_path / "freerun.json").read_text())["horizon"]
    assert found.updates / 10 < horizon < found.updates * 10
    assert found.seconds_per_update == pytest.approx(found.seconds / found.updates, rel=0.5)


def test_the_horizon_is_estimated_beside_the_run():
    made = resolve(MODEL, DATA, MLE(), task=TASK)
    policy = made.policy
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    horizons = [estimate_horizon(made, changed(budget=budget)) for budget in (1.0, 10.0)]
    assert 2 < horizons[1] / horizons[0] < 50
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    with pytest.raises(ValueError, match=r"^budget is None; there is nothing to estimate$"):
        estimate_horizon(made, TRAINING)


def test_updates_are_timed_at_the_middle_of_the_schedule(monkeypatch):
    clocks = []

    def loss(self, policy, batch, clock, modules):
        clocks.append(clock)
        return MLE().loss(policy, batch, clock)

    monkeypatch.setattr(Worse, "loss", loss)
    horizon = estimate_horizon(resolve(MODEL, DATA, Worse(), task=TASK), changed(budget=0.1))
    totals = sorted({clock.total for clock in clocks})
    assert all(clock.step == clock.total // 2 for clock in clocks)
    assert len(totals) == 2
    assert 1000 in totals
    assert horizon >= 1


def test_the_horizon_of_a_budget_is_kept(tmp_path, monkeypatch):
    clocks = []

    class Watch(Worse):
        def loss(self, policy, batch, clock, modules):
            clocks.append(clock.total)
            if len(clocks) == 3:
                raise KeyboardInterrupt
            return super().loss(policy, batch, clock, modules)

    horizons = iter([123, 456])
    room = sys.modules["freerun.training.fit"]
    monkeypatch.setattr(room, "estimate_horizon", lambda *_: next(horizons))
    training = changed(budget=0.2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Watch(), training=training)
    run(tmp_path, Watch(), training=training)
    assert set(clocks) == {123}


def test_settings_of_another_run(tmp_path):
    run(tmp_path)
    for members, difference in (
        ({"training": changed(seed=5)}, "seeds is [1] there, and [5] here"),
        ({"model": replace(MODEL, layers=2)}, "model.layers is 1 there, and 2 here"),
        (
            {"method": ScheduledSampling()},
            "it has no methods.scheduled_sampling; it has methods.mle, which was not requested",
        ),
        (
            {"method": MLE(label_smoothing=0.1)},
            "methods.mle.settings.label_smoothing is 0.0 there, and 0.1 here",
        ),
        ({"task": Tiny(dev=14)}, "task.settings.dev is 13 there, and 14 here"),
        ({"data": Tiny(train=49).load()}, "examples.train is 50 there, and 49 here"),
    ):
        message = f"{tmp_path}: it holds another run: {difference}; choose another output directory"
        with raises(CheckpointError, message):
            run(tmp_path, **members)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "checkpoint-10", "comparison.json"]
)
def test_a_folder_of_something_else(tmp_path, name):
    (tmp_path / name).write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    message = (
        f"{tmp_path}: it holds {name} but no freerun.json, so it is not a run of freerun; "
        "choose another output directory"
    )
    with raises(CheckpointError, message):
        run(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_damaged_record(tmp_path):
    path = tmp_path / "freerun.json"
    path.write_text("{")
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: not JSON \\("):
        run(tmp_path)
    path.write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"freerun\.json: the field 'task' is missing; was it "
    ):
        run(tmp_path)


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    message = f"{tmp_path / 'file'}: it is a file; choose another output directory"
    with raises(CheckpointError, message):
        run(tmp_path / "file")
    output = tmp_path / "file" / "run"
    message = f"{output}: cannot write there (Not a directory)"
    with raises(CheckpointError, message):
        run(output)
    with pytest.raises(CheckpointError, match=r"^/proc/run: cannot write there \(.*\)$"):
        run("/proc/run")


def test_init_starts_from_another_runs_model(tmp_path):
    first = run(tmp_path / "first", training=changed(updates=30, learning_rate=0.05))
    later = run(
        tmp_path / "later",
        ScheduledSampling(),
        training=changed(updates=1, evaluate_every=1, learning_rate=1e-9),
        init=tmp_path / "first",
    )
    own = first.policy.state_dict()
    for name, value in later.policy.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=1e-6)
    record = json.loads((tmp_path / "later" / "freerun.json").read_text())
    assert record["init"] == str(tmp_path / "first")
    assert not list((tmp_path / "first").glob("checkpoint-*"))


def test_checkpoints_that_a_killed_process_did_not_delete_are_deleted(tmp_path):
    with keeping_checkpoints():
        first = run(tmp_path)
    assert checkpoints(tmp_path)
    assert replace(run(tmp_path), policy=first.policy) == first
    assert not checkpoints(tmp_path)


def test_init_starts_from_a_checkpoint(keep_checkpoints, tmp_path):
    run(tmp_path / "first")
    checkpoint = next((tmp_path / "first").glob("checkpoint-*"))
    assert run(tmp_path / "later", init=checkpoint, model=None).policy.config.hidden_size == 8


def test_dropout_and_the_longest_output_may_change_with_init(tmp_path):
    run(tmp_path / "first")
    task = Tiny(longest=9)
    found = run(
        tmp_path / "later",
        task=task,
        data=task.load(),
        model=replace(MODEL, dropout=0.25),
        init=tmp_path / "first",
    )
    assert found.policy.config.limit == 10
    assert found.policy.dropout.p == 0.25


@pytest.mark.parametrize("model", TRANSFORMERS, ids=lambda model: model.kind)
def test_transformers_start_from_the_model_of_a_run_too(tmp_path, model):
    first = run(tmp_path / "first", model=model)
    task = Tiny(longest=9)
    members = {"task": task, "data": task.load(), "init": tmp_path / "first"}
    brief = changed(updates=1, evaluate_every=1, learning_rate=1e-9)
    found = run(tmp_path / "as it was", model=None, training=brief, **members)
    own = first.policy.state_dict()
    for name, value in found.policy.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=1e-6)
    assert found.policy.max_new_tokens == 10
    record = json.loads((tmp_path / "as it was" / "freerun.json").read_text())
    assert record["model"] == model.record()
    run(tmp_path / "dropping", model=replace(model, dropout=0.5), training=brief, **members)
    message = (
        f"{tmp_path / 'first'}: layers of the model is 1, but 2 is requested; only dropout may "
        "differ"
    )
    with raises(CheckpointError, message):
        run(tmp_path / "deep", model=replace(model, layers=2), **members)
    message = f"{tmp_path / 'first'}: it is a {model.kind} model, not a recurrent one"
    with raises(CheckpointError, message):
        run(tmp_path / "recurrent", **members)


def test_two_models_to_start_from_are_one_too_many(tmp_path):
    run(tmp_path / "first", model=TRANSFORMERS[0])
    # As it is left by others, without a record.
    (tmp_path / "first" / "freerun.json").unlink()
    message = (
        f"{tmp_path / 'first'} and elsewhere are both given as the model to start from; give one"
    )
    with raises(CheckpointError, message):
        run(tmp_path / "x", model=PretrainedSettings(path="elsewhere"), init=tmp_path / "first")
    found = run(tmp_path / "later", model=None, init=tmp_path / "first")
    assert found.updates == 8
    record = json.loads((tmp_path / "later" / "freerun.json").read_text())
    assert record["model"] == PretrainedSettings(path=str(tmp_path / "first")).record()


def test_a_trained_recurrent_model_is_gone_on_from_as_it_is(tmp_path):
    first = run(tmp_path / "first")
    model = PretrainedSettings(path=str(tmp_path / "first"), dropout=0.25)
    brief = changed(updates=1, evaluate_every=1, learning_rate=1e-9)
    found = run(tmp_path / "later", model=model, training=brief)
    assert found.policy.config.dropout == 0.25
    own = first.policy.state_dict()
    for name, value in found.policy.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=1e-6)
    for fault, other in (
        (f"lora has no effect on {model.path}: it is a recurrent model", replace(model, lora=2)),
        (f"{model.path}: it does not match the task: the number of source tokens of the model is "
         "4, of the task 6", None),
    ):  # fmt: skip
        members = {} if other else {"task": Tiny(letters=6), "data": Tiny(letters=6).load()}
        with raises(ValueError, fault):
            run(tmp_path / "refused", model=other or model, **members)


@pytest.mark.kernels
@pytest.mark.parametrize("model", TRANSFORMERS, ids=lambda model: model.kind)
def test_transformers_are_trained_in_half_precision_and_with_checkpoints(tmp_path, model):
    plain = run(tmp_path / "plain", model=model)
    saving = changed(gradient_checkpointing=True)
    saved = run(tmp_path / "saving", model=model, training=saving)
    assert saved.curve[-1]["loss"] == pytest.approx(plain.curve[-1]["loss"], rel=1e-5)
    half = run(tmp_path / "half", model=model, training=changed(precision="bf16"))
    assert half.curve[-1]["loss"] == pytest.approx(plain.curve[-1]["loss"], rel=0.05)
    assert half.curve[-1]["loss"] != plain.curve[-1]["loss"]


def test_examples_that_do_not_fit_the_positions_are_told_before_training(tmp_path):
    task = Tiny(longest=12, train=200)
    message = (
        "train, example {}: source and target take 25 positions together, but the model has 16; "
        "shorten them, or train a model with more (--model.positions)"
    )
    data = task.load()
    longest = next(i for i, source in enumerate(data.train.sources, 1) if len(source) == 12)
    with raises(DataError, message.format(longest)):
        run(tmp_path, task=task, data=data, model=replace(TRANSFORMERS[0], positions=16))
    assert not list(tmp_path.iterdir())


def test_a_record_of_an_older_version_is_refused(tmp_path):
    run(tmp_path)
    path = tmp_path / "freerun.json"
    record = json.loads(edit_record(path))
    for name, fault in (("codec", "is missing"), ("method", "is unknown")):
        other = {k: v for k, v in record.items() if k != name}
        path.write_text(json.dumps(other if name in record else {**record, name: {}}))
        message = (
            f"{path}: the field {name!r} {fault}; was it written by another version of freerun? "
            "Train again"
        )
        with raises(CheckpointError, message):
            run(tmp_path)
    path.write_text(json.dumps({**record, "results": {"updates": 8}}))
    with pytest.raises(CheckpointError, match=r"freerun\.json: results: .*missing"):
        run(tmp_path)


def test_other_data_under_the_same_name_are_another_run(tmp_path):
    run(tmp_path)
    other = replace(DATA, codec=replace(DATA.codec, longest=7))
    with pytest.raises(CheckpointError, match=r"it holds another run: codec is [0-9a-f]{64} th"):
        run(tmp_path, data=other)


def test_init_that_does_not_suit(tmp_path):
    first = tmp_path / "the first"
    run(first)
    for members, fault in (
        (
            {"model": replace(MODEL, hidden_size=9)},
            "hidden_size of the model is 8, but 9 is requested; only dropout may differ",
        ),
        (
            {"task": Tiny(letters=6), "data": Tiny(letters=6).load()},
            "its tokens are not those of the data (the number of source tokens of the model is 4, "
            "of the task 6); to read the data by the tokens of this model, give --model "
            f"'{first}' in place of --init (in Python, model=PretrainedSettings(path='{first}'))",
        ),
        (
            {"task": Tiny(eos=False), "data": Tiny(eos=False).load()},
            "it does not match the task: the number of symbols of the model is 5, of the task 4",
        ),
    ):
        with raises(CheckpointError, f"{first}: {fault}"):
            run(tmp_path / "later", init=first, **members)
    with pytest.raises(CheckpointError, match=r"nowhere: there is no such directory$"):
        run(tmp_path / "later", init=tmp_path / "nowhere")
    assert not (tmp_path / "later").exists()


def test_fixed_length_outputs(tmp_path):
    task = Tiny(eos=False)
    found = run(tmp_path, task=task, data=task.load(), model=replace(MODEL, attention="aligned"))
    assert found.updates == 8


def test_quiet_is_silent(tmp_path, capfd):
    run(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_progress_is_told(tmp_path, capfd):
    fit(TASK, DATA, MLE(), model=MODEL, training=TRAINING, output=tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split()[0] for line in err.splitlines()] == ["2/8", "4/8", "6/8", "8/8"]
