"""What was damaged, or is of another run, is named; nothing is trained or evaluated from it."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import re
import shutil
from dataclasses import replace
from math import isnan, nan

import pytest
import safetensors.torch
import torch
from transformers import TrainingArguments

from freerun.errors import CheckpointError
from freerun.methods import MLE, ScheduledSampling
from freerun.models.settings import PretrainedSettings, RecurrentSettings
from freerun.training import Trainer, TrainingSettings, fit, load_policy
from freerun.training.folders import checkpoints, lock
from freerun.training.record import Record
from freerun.training.training_state import check_optimizer_state, read_state
from tests.helpers import edit_record, keeping_checkpoints
from tests.training.tiny_task import Tiny, TinyCodec

TASK = Tiny()
DATA = TASK.load()
MODEL = RecurrentSettings(hidden_size=8, embedding_size=6)
TRAINING = TrainingSettings(
    updates=8, evaluate_every=2, batch_size=8, learning_rate=0.02, threads=1, keep="last", seed=1
)
CHANGED = (
    "{}: it was damaged or changed after it was saved: its SHA-256 is not that in SHA256SUMS; "
    "delete SHA256SUMS if the change was intended"
)


def run(output, seed=1, **members):
    training = replace(TRAINING, seed=seed)
    settings = {"model": MODEL, "training": training, "output": output, "quiet": True}
    return fit(TASK, DATA, MLE(), **{**settings, **members})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with keeping_checkpoints():
        for seed in (1, 2):
            run(folder / f"seed-{seed}", seed)
    return folder


@pytest.fixture
def folders(finished, tmp_path):
    """Two finished runs that differ in the seed."""
    return [shutil.copytree(finished / f"seed-{n}", tmp_path / f"seed-{n}") for n in (1, 2)]


def unfinish(folder):
    """Make a run as it was before its model was moved to its folder."""
    for path in folder.iterdir():
        if path.is_file() and path.name != "freerun.json":
            path.unlink()
    edit_record(folder / "freerun.json", results=None)


def flip(path):
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 16
    path.write_bytes(contents)


def fault(action, *args, **members):
    with pytest.raises(CheckpointError) as caught:
        action(*args, **members)
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "codec.json"])
def test_a_flipped_bit_is_found_however_the_model_is_read(folders, tmp_path, name):
    first, _ = folders
    flip(first / name)
    expected = CHANGED.format(first / name)
    assert fault(load_policy, first) == expected
    assert fault(run, first) == f"{expected}; delete {first} to train the run again"
    assert fault(run, tmp_path / "next", init=first) == expected
    model = PretrainedSettings(path=str(first))
    assert fault(model.load, TASK) == expected
    assert fault(run, tmp_path / "next", model=model) == expected
    assert not (tmp_path / "next").exists()


def test_the_weights_of_another_run_are_found(folders):
    first, second = folders
    shutil.copy(second / "model.safetensors", first / "model.safetensors")
    assert fault(load_policy, first) == CHANGED.format(first / "model.safetensors")


def test_a_change_that_was_intended_is_accepted(folders):
    first, second = folders
    shutil.copy(second / "model.safetensors", first / "model.safetensors")
    (first / "SHA256SUMS").unlink()
    policy, _ = load_policy(first, TinyCodec)
    weights = safetensors.torch.load_file(second / "model.safetensors")
    assert all(torch.equal(policy.state_dict()[name], weights[name]) for name in weights)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(folders, tmp_path, number):
    first, _ = folders
    path = first / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    name = sorted(weights)[2]
    weights[name].view(-1)[1] = number
    safetensors.torch.save_file(weights, path)
    (first / "SHA256SUMS").unlink()
    expected = f"{path}: {name} has values that are infinite or not numbers"
    assert fault(load_policy, first) == expected
    assert fault(run, tmp_path / "next", init=first) == expected
    model = PretrainedSettings(path=str(first))
    assert fault(run, tmp_path / "next", model=model).endswith(expected.partition(": ")[2])


def test_a_changed_record(folders):
    path = folders[0] / "freerun.json"
    text = path.read_text()
    path.write_text(text.replace('"horizon": 8', '"horizon": 9'))
    assert fault(run, path.parent) == (
        f"{path}: it was damaged or changed after it was written: its contents do not match "
        "'sha256'; remove that field if the change was intended"
    )
    path.write_text(re.sub(r'\s*"sha256": "\w+",', "", text))
    run(path.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": []}, "task is []; it must be an object"),
        ({"task": {"name": "a", "settings": {}}}, "task: the field 'files' is missing"),
        ({"methods": {"mle": 1}}, "methods.mle is 1; it must be an object"),
        ({"model": {}}, "model.kind is null; it must be text"),
        ({"seeds": [1, "2"]}, 'seeds[1] is "2"; it must be a whole number'),
        ({"horizon": "8"}, 'horizon is "8"; it must be a whole number or null'),
        ({"results": []}, "results is []; it must be an object"),
        ({"results": {}}, "results: the field 'updates' is missing"),
    ],
)
def test_a_record_of_other_types(folders, changes, message):
    path = folders[0] / "freerun.json"
    edit_record(path, **changes)
    assert fault(run, path.parent) == f"{path}: {message}"


FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]


@pytest.mark.parametrize("name", FILES)
def test_the_older_checkpoint_is_used_where_the_newest_is_damaged(folders, finished, caplog, name):
    first, _ = folders
    unfinish(first)
    newest, older = checkpoints(first)[::-1]
    assert (newest.name, older.name) == ("checkpoint-8", "checkpoint-6")
    flip(newest / name)
    with keeping_checkpoints():
        run(first)
    assert caplog.messages == [f"{CHANGED.format(newest / name)}; going on from checkpoint-6"]
    whole = finished / "seed-1" / "model.safetensors"
    assert (first / "model.safetensors").read_bytes() == whole.read_bytes()
    unfinish(first)
    for folder in checkpoints(first):
        flip(folder / name)
    assert fault(run, first) == (
        f"{CHANGED.format(newest / name)}; there is no intact checkpoint to resume from: delete "
        f"those in {first} to start over"
    )


def test_the_older_checkpoint_is_used_where_the_newest_record_is_damaged(folders, caplog):
    first, _ = folders
    unfinish(first)
    newest = checkpoints(first)[-1] / "freerun.json"
    newest.write_text("[]")
    run(first)
    assert caplog.messages == [f"{newest}: it must hold a JSON object; going on from checkpoint-6"]


@pytest.mark.parametrize("name", ["scheduler.pt", "optimizer.pt"])
def test_parts_of_another_run_are_found(folders, caplog, name):
    first, second = folders
    unfinish(first)
    shutil.copy(second / "checkpoint-8" / name, first / "checkpoint-8" / name)
    if name == "scheduler.pt":  # which has the same contents in every run of these settings
        flip(first / "checkpoint-8" / name)
    run(first)
    assert caplog.messages == [
        f"{CHANGED.format(first / 'checkpoint-8' / name)}; going on from checkpoint-6"
    ]


def test_a_whole_checkpoint_of_another_run_is_found(folders):
    first, second = folders
    unfinish(first)
    shutil.rmtree(first / "checkpoint-8")
    shutil.copytree(second / "checkpoint-8", first / "checkpoint-8")
    assert fault(run, first) == (
        f"{first / 'checkpoint-8'}: it is of another run: seeds is [2] there, and [1] here; "
        "resume with the same settings and data, or start over"
    )


def test_the_best_checkpoint_must_be_there(keep_checkpoints, tmp_path):
    training = replace(TRAINING, keep="best", learning_rate=1e-9)  # the first is the best
    run(tmp_path, training=training)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-8"]
    unfinish(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-2")
    assert fault(run, tmp_path, training=training) == (
        f"{tmp_path / 'checkpoint-2'}: it is missing, but the best model so far is in it; start "
        "over in another output directory"
    )


def test_what_cannot_be_computed_is_null_in_files_and_nan_when_read(folders):
    folder, _ = folders
    record = Record.read(folder / "freerun.json")
    lost = {"teacher_forced_loss": nan}
    curve = [{**point, **lost} for point in record.results.curve]
    results = replace(record.results, dev={**record.results.dev, **lost}, curve=curve)
    replace(record, results=results).write(folder / "freerun.json")
    assert "NaN" not in (folder / "freerun.json").read_text()
    found = Record.read(folder / "freerun.json").results
    assert isnan(found.dev["teacher_forced_loss"])
    assert isnan(found.curve[-1]["teacher_forced_loss"])
    path = folder / "checkpoint-8" / "trainer_state.json"
    state = json.loads(path.read_text())
    state["log_history"][-1]["eval_teacher_forced_loss"] = None
    path.write_text(json.dumps(state))
    assert isnan(read_state(path.parent).log_history[-1]["eval_teacher_forced_loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"global_step": "8"}, 'global_step is "8"; it must be a whole number'),
        ({"global_step": 7}, "it is of update 7"),
        ({"log_history": {}}, ".log_history is {}; it must be a list"),
        ({"log_history": [{}]}, "log_history[0].step is null; it must be a whole number"),
        ({"stateful_callbacks": []}, ".stateful_callbacks is []; it must be an object"),
        ({"stateful_callbacks": {"Meter": 1}}, "stateful_callbacks.Meter is 1; it must be an obj"),
        ({"unheard_of": 1}, "cannot be read (TrainerState.__init__() got an unexpected keyword"),
    ],
)
def test_a_state_of_other_types(folders, change, message):
    first, _ = folders
    unfinish(first)
    path = first / "checkpoint-8" / "trainer_state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    (path.parent / "SHA256SUMS").unlink()
    found = fault(run, first)
    assert found.startswith(f"{path}")
    assert message in found


# ---- States of optimizers


def optimized(cls=torch.optim.Adam):
    module = torch.nn.Linear(3, 2)
    optimizer = cls(module.parameters(), lr=0.1)
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return module, optimizer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["state"][0].update(exp_avg=torch.ones(3, 3)),
         "exp_avg of parameter 0 has shape [3, 3], not [2, 3]"),
        (lambda s: s["state"][1].update(exp_avg_sq=torch.ones(10**6)),
         "exp_avg_sq of parameter 1 has shape [1000000], not [2]"),
        (lambda s: s["state"][1].update(step=torch.ones(3)),
         "step of parameter 1 has shape [3], not [2]"),
        (lambda s: s["state"][0].update(exp_avg=torch.ones(2, 3, dtype=torch.int64)),
         "exp_avg of parameter 0 has dtype torch.int64"),
        (lambda s: s["state"][0].update(exp_avg=torch.full((2, 3), torch.nan)),
         "exp_avg of parameter 0 is not finite"),
        (lambda s: s["state"][0].pop("exp_avg"), "its entries differ between parameters"),
        (lambda s: s.pop("state"), "it is not the state of an optimizer"),
        (lambda s: s["param_groups"][0].pop("betas"),
         "it is of another optimizer, which has no 'betas'"),
        (lambda s: s["param_groups"][0]["params"].pop(), "zip() argument 2 is longer"),
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "zip() argument 2 is shorter"),
    ],
)  # fmt: skip
def test_the_state_of_an_optimizer_is_checked_before_it_is_loaded(change, message):
    module, optimizer = optimized()
    check_optimizer_state(optimizer.state_dict(), module, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    with pytest.raises(ValueError, match=re.escape(message)):
        check_optimizer_state(state, module, optimizer)


def test_the_state_of_another_optimizer():
    module, adam = optimized()
    _, sgd = optimized(torch.optim.SGD)
    with pytest.raises(ValueError, match=r"^it is of another optimizer, which has no '"):
        check_optimizer_state(sgd.state_dict(), module, adam)


# ---- Resuming in Python


def trainer(output, data=DATA, method=None, optimizer=None, **settings):
    torch.manual_seed(0)
    arguments = {
        "max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
    }  # fmt: skip
    return Trainer(
        model=MODEL.build(DATA.codec),
        method=method or MLE(),
        args=TrainingArguments(
            str(output), use_cpu=True, disable_tqdm=True, report_to="none", seed=3,
            save_strategy="steps", **{**arguments, **settings},
        ),
        processing_class=DATA.codec,
        train_dataset=data.train,
        optimizer_cls_and_kwargs=optimizer,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    trainer(output).train()
    return output


@pytest.mark.parametrize(
    ("members", "difference"),
    [
        ({"learning_rate": 0.1}, "training.learning_rate is 0.01 there, and 0.1 here"),
        ({"per_device_train_batch_size": 4},
         "training.per_device_train_batch_size is 8 there, and 4 here"),
        ({"gradient_accumulation_steps": 2},
         "training.gradient_accumulation_steps is 1 there, and 2 here"),
        ({"seed": 4}, "seeds is [3] there, and [4] here"),
        ({"optim": "sgd"}, "training.optim is adamw_torch_fused there, and sgd here"),
        ({"lr_scheduler_type": "cosine"},
         "training.lr_scheduler_type is constant there, and cosine here"),
        ({"optimizer": (torch.optim.SGD, {"lr": 0.01})}, "training.optim is adamw_torch_fused "
         "there, and {'class': 'SGD', 'lr': 0.01} here"),
        ({"method": ScheduledSampling()},
         "it has no methods.scheduled_sampling; it has methods.mle, which was not requested"),
        ({"method": MLE(label_smoothing=0.1)},
         "methods.mle.settings.label_smoothing is 0.0 there, and 0.1 here"),
        ({"data": Tiny(train=49).load()}, "examples.train is 50 there, and 49 here; resume"),
    ],
)  # fmt: skip
def test_a_run_is_resumed_with_its_own_settings(trained, tmp_path, members, difference):
    output = shutil.copytree(trained, tmp_path / "run")
    members = {"seed": 3, **members}
    arguments = {k: v for k, v in members.items() if k != "seed"}
    made = trainer(output, **arguments)
    if members["seed"] != 3:
        made.args.seed = members["seed"]
    found = fault(made.train, resume_from_checkpoint=True)
    assert found.startswith(f"{output / 'checkpoint-4'}: it is of another run: {difference}")


def test_other_data_of_the_same_size(trained):
    data = replace(DATA, train=replace(DATA.train, sources=DATA.train.sources[::-1]))
    found = fault(trainer(trained, data=data).train, resume_from_checkpoint=True)
    assert "of another run: the examples of train are not those of here; resume with" in found


def test_a_run_may_be_made_longer(trained, tmp_path, caplog):
    output = shutil.copytree(trained, tmp_path / "run")
    longer = trainer(output, max_steps=6)
    longer.train(resume_from_checkpoint=True)
    assert caplog.messages == [
        f"{output / 'checkpoint-4'}: schedules were fitted to 4 updates there, and from now on to 6"
    ]
    whole = trainer(tmp_path / "whole", max_steps=6)
    whole.train()
    for one, other in zip(longer.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", [f"rng_state_{rank}.pth" for rank in (1, 3)])
def test_the_number_of_processes_must_be_the_same(trained, tmp_path, name):
    output = shutil.copytree(trained, tmp_path / "run")
    folder = output / "checkpoint-4"
    for rank in range(int(name[10]) + 1):
        shutil.copy(folder / "rng_state.pth", folder / f"rng_state_{rank}.pth")
    (folder / "rng_state.pth").unlink()
    (folder / "SHA256SUMS").unlink()
    count = int(name[10]) + 1
    assert fault(trainer(output).train, resume_from_checkpoint=True) == (
        f"{folder}: it was written by {count} processes together, and is resumed by 1 process; "
        f"resume with {count}"
    )


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"load_best_model_at_end": True}, "loss"),
     ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "loss"),
     ({"load_best_model_at_end": True, "metric_for_best_model": "bleu"}, "bleu")],
)  # fmt: skip
def test_what_chooses_the_best_must_be_reported(tmp_path, settings, name):
    message = (
        f"metric_for_best_model='{name}' is not reported; known are exact_match, character_error, "
        "teacher_forced_loss; set metric_for_best_model='exact_match', greater_is_better=True"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        trainer(tmp_path, eval_strategy="steps", eval_steps=2, **settings)


# ---- Locks


def test_a_folder_that_another_process_writes_to(finished, tmp_path):
    folder = shutil.copytree(finished / "seed-1", tmp_path / "run")
    message = (
        f"{folder}: another process is writing to it; wait until that has ended, or choose another "
        "output directory"
    )
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert fault(run, folder) == message
    load_policy(folder, TinyCodec)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        trainer(folder).train()
    os.close(handle)
    with lock(folder), lock(folder):
        run(folder)
    run(folder)
