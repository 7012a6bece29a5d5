"""Train one run, from settings to a trained policy in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainingArguments

from freerun.data import Codec, Data
from freerun.errors import CheckpointError
from freerun.methods import Method
from freerun.models.huggingface import HuggingFacePolicy
from freerun.models.loading import quiet_transformers
from freerun.models.settings import ModelSettings, RecurrentSettings
from freerun.policy import Policy
from freerun.settings import to_dict
from freerun.tasks.base import Task
from freerun.training.checkpoints import load_policy
from freerun.training.checks import try_method
from freerun.training.folders import (
    check_not_file,
    delete_checkpoints,
    find_intact_checkpoint,
    flush,
    get_temporary_path,
    lock,
    move,
    report_save_errors,
    sweep,
)
from freerun.training.horizon import estimate_horizon
from freerun.training.model_source import read_model_settings
from freerun.training.processes import limit_threads, name_dead_processes, using_threads
from freerun.training.progress import Status, show_notes
from freerun.training.record import RECORD_FILE, Record, Results, build_curve
from freerun.training.resolve import Run, as_setting_errors, resolve
from freerun.training.settings import TrainingSettings
from freerun.training.sharding import is_sharded
from freerun.training.trackers import tracking
from freerun.training.trainer import RunTrainer

_FOREIGN = ("config.json", "model.safetensors", "checkpoint-*", "comparison.json")
"""Files that are in other folders: without a record, they show that a folder is not of a run."""
FINAL = "final"
"""The temporary folder of the trained model, from which files are moved to the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Fit(Results):
    """A finished run: its results, and the trained model.

    Attributes:
        policy: the model that was kept, in evaluation mode.
        codec: the codec of the policy: that of the data, with a backspace if the policy has one.
    """

    policy: Policy
    codec: Codec


def fit(
    task: Task,
    data: Data,
    method: Method,
    *,
    model: ModelSettings | None = None,
    training: TrainingSettings,
    output: str | Path,
    init: str | Path | None = None,
    quiet: bool = False,
    on_progress: Callable[[Status], Any] | None = None,
    run: Run | None = None,
    name: str | None = None,
) -> Fit:
    """Train a policy, or resume an interrupted run in `output`.

    With the same seed, all methods start from the same weights. The trained policy, its codec and
    freerun.json (settings and results) are written to `output`; a finished run is only loaded.
    Under a launcher, all processes call this function, and the first one writes.

    Args:
        task: the task, whose headline metric on dev determines the best model.
        data: the data of the task, from `model.load(task)`; their notes are shown.
        method: the training method.
        model: the settings of the model; by default a recurrent one, or that of `init`.
        training: the settings of training.
        output: the folder of the run.
        init: a checkpoint to initialize the weights from.
        quiet: show neither notes nor progress.
        on_progress: is called with the status of training from time to time.
        run: the result of `resolve` for the same arguments, if it was called already.
        name: the name of the run for trackers; by default the method and the seed.

    Raises:
        CheckpointError: if `output` cannot be written, holds another run or is written to by
            another process, `init` cannot be read or does not match the task, or the disk is full.
        ProcessError: if another process of the run has ended.
        ValueError: if a setting is incompatible with the task, the device or the other settings.
        FloatingPointError: if the loss is not finite.
    """
    output, init = Path(output), None if init is None else Path(init)
    check_not_file(output)
    if model is None:
        model = RecurrentSettings() if init is None else read_model_settings(init)
    training, chosen = training.complete(len(data.train), model)
    asked = method.for_task(task)
    method = asked.for_model(at_once=model.reads_rows_at_once)
    chosen += _describe_choices(to_dict(asked), to_dict(method))
    with quiet_transformers(), ExitStack() as stack:
        limit_threads()
        if training.threads is not None:
            stack.enter_context(using_threads(training.threads))
        with as_setting_errors():
            arguments = training.arguments(output, task, quiet=quiet)
        stack.enter_context(name_dead_processes())
        if arguments.should_save and output.is_dir():
            stack.enter_context(lock(output))
        made, seeds = {method.name: method}, [training.seed]
        record = Record.build(task, made, model, training, seeds=seeds, init=init, data=data)
        record = _resume(record, output)
        if record.results is not None:
            return _load(record.results, output, type(data.codec), arguments)
        if run is None:
            run = resolve(model, data, method, task=task, init=init, seed=training.seed)
            check_training(run, training)
        show_notes([*data.notes, *chosen], quiet or not arguments.should_save)
        arguments.distributed_state.wait_for_everyone()
        if arguments.should_save:
            stack.enter_context(lock(output))
            _check_writable(output)
        name = name or f"{method.name}, seed {training.seed}"
        return _train(run, record, training, arguments, name, on_progress)


def _describe_choices(asked: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return notes on the settings of a method that depend on the kind of model."""
    return [
        f"{name} {value}, as for models that read rows at once"
        for name, value in found.items()
        if asked.get(name) != value
    ]


def _load(results: Results, output: Path, codec: type[Codec], arguments: TrainingArguments) -> Fit:
    """Load a finished run.

    Raises:
        CheckpointError: if its model cannot be read.
    """
    if arguments.should_save:
        delete_checkpoints(output)  # of a process that was killed meanwhile
        sweep(output)
    try:
        policy, found = load_policy(output, codec)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete {output} to train the run again") from None
    return Fit(policy=policy.to(arguments.device), codec=found, **vars(results))


def check_training(run: Run, training: TrainingSettings) -> None:
    """Check that a run can be trained with its settings.

    Raises:
        SettingError: if it cannot.
    """
    with as_setting_errors():
        training.check(run.policy)
        # Only models of other libraries can fail in ways that the probe does not cover.
        if isinstance(run.policy, HuggingFacePolicy):
            try_method(run.policy, run.method, run.train, training)


def _resume(record: Record, output: Path) -> Record:
    """Return the record of this run from its folder, or the given one if the run has not begun.

    Raises:
        CheckpointError: if the folder contains another run, or other files.
    """
    path = output / RECORD_FILE
    if path.exists():
        found = Record.read(path)
        record.check(found, output, "run")
        return found
    for pattern in _FOREIGN:
        for other in sorted(output.glob(pattern)):
            raise CheckpointError(
                f"{output}: it holds {other.name} but no {RECORD_FILE}, so it is not a run of "
                "freerun; choose another output directory"
            )
    return record


def _check_writable(output: Path) -> None:
    probe = output / f".probe.{os.getpid()}.new.tmp"
    try:
        probe.write_bytes(b"freerun")
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"{output}: cannot write there ({error.strerror})") from None


def _train(
    run: Run,
    record: Record,
    training: TrainingSettings,
    arguments: TrainingArguments,
    name: str,
    on_progress: Callable[[Status], Any] | None,
) -> Fit:
    """Train, from the newest checkpoint if there is one, and save the best or last model."""
    output = Path(arguments.output_dir)
    if record.horizon is None:
        horizon = training.updates or 0
        if training.budget is not None:
            horizon = estimate_horizon(run, training)
        record = replace(record, horizon=horizon)
        if arguments.should_save:
            with report_save_errors(output / FINAL, "freerun.json"):
                record.write(output / RECORD_FILE)
    trainer = RunTrainer(
        run,
        arguments,
        horizon=record.horizon,
        budget=training.budget,
        optimizer_cls_and_kwargs=training.optimizer_cls_and_kwargs,
        callbacks=[EarlyStoppingCallback(training.patience)] if training.patience else [],
        on_progress=on_progress,
        record=record,
    )
    last = find_intact_checkpoint(output)
    with tracking(trainer, name, record.flatten()):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    trainer.accelerator.wait_for_everyone()  # all read the best checkpoint before it is deleted
    results = _collect_results(trainer, training)
    _save(trainer, replace(record, results=results), output)
    trainer.accelerator.wait_for_everyone()
    policy = run.policy
    if is_sharded(trainer.objective):  # this process has only a part of it
        policy, _ = load_policy(output, type(run.codec))
    policy.zero_grad()
    return Fit(policy=policy.to(arguments.device).eval(), codec=run.codec, **vars(results))


def _collect_results(trainer: RunTrainer, training: TrainingSettings) -> Results:
    """Collect the results of a run that has just ended."""
    state, meter = trainer.state, trainer.meter
    curve = build_curve(state.log_history)
    kept = state.global_step
    if training.keep == "best" and state.best_model_checkpoint:
        kept = state.best_global_step
    beside = ("update", "seconds", "loss")
    dev = next(point for point in curve if point["update"] == kept)
    return Results(
        updates=state.global_step,
        seconds=meter.seconds,
        seconds_per_update=meter.seconds_per_update,
        best_update=state.best_global_step,
        kept_update=kept,
        dev={name: value for name, value in dev.items() if name not in beside},
        curve=curve,
    )


def _save(trainer: RunTrainer, record: Record, output: Path) -> None:
    """Save the model in the run's folder, then freerun.json, and delete the checkpoints.

    The first process writes; the others contribute their shards of the weights.
    """
    with report_save_errors(output / FINAL, "the trained model"):
        written = get_temporary_path(output / FINAL)
        trainer.save_model(str(written))
        if not trainer.args.should_save:
            return
        record.write(written / RECORD_FILE)
        flush(written)
        move(written, output, last=RECORD_FILE)
        # With the state of the optimizer, each takes three times the space of the model.
        delete_checkpoints(output)
