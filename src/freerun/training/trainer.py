"""The training loop: transformers' Trainer, with free-running evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
    set_seed,
)
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from freerun.data import Examples
from freerun.digests import write_digests
from freerun.errors import CheckpointError
from freerun.evaluation import (
    GREEDY,
    DecodedExamples,
    Decoding,
    batches_by_length,
    check_decoding,
    find_writable,
    on_device,
)
from freerun.methods import Method
from freerun.metrics import score
from freerun.policy import Policy
from freerun.tasks.base import Task
from freerun.training.callbacks import ClockCallback, LogWithEvaluation, Meter, SaveBeforeStop
from freerun.training.card import Card
from freerun.training.checks import (
    check_arguments,
    check_best,
    check_names,
    convert_epochs,
    has_unused_parameters,
)
from freerun.training.datasets import Datasets, Processing, make_examples
from freerun.training.folders import (
    find_intact_checkpoint,
    lock,
    replace_model,
    report_save_errors,
    sweep,
)
from freerun.training.model_source import Model
from freerun.training.objective import Objective
from freerun.training.overrides import TrainerOverrides
from freerun.training.processes import freeze_garbage, name_dead_processes
from freerun.training.progress import ProgressBar, ProgressReporter, Status
from freerun.training.record import Record
from freerun.training.resolve import Run, resolve
from freerun.training.resuming import build_record, check_resumable
from freerun.training.settings import OptimizerChoice
from freerun.training.sharding import gather_state, is_sharded
from freerun.training.stream import Stream


class RunTrainer(TrainerOverrides):
    """Trains a resolved run (see `resolve`), and evaluates it free-running.

    The examples of a run are one stream (see `Order`), whose length is the number of updates in
    `args`. The loss is a mean over the target tokens of a whole update, so accumulation and the
    number of processes do not change it. Checkpoints are atomic, and a resumed run continues as if
    it had not been interrupted.

    Args:
        run: the policy, method, task and data.
        args: transformers' settings.
        horizon: the number of updates that schedules are fitted to, after which they are constant;
            by default all updates.
        budget: the seconds of training after which to stop.
        decoding: how to decode in evaluations.
        optimizer_cls_and_kwargs: an optimizer and its settings, instead of that of `args`.
        callbacks: additional callbacks.
        on_progress: is called with the status of training from time to time.
        record: the record of the run, which checkpoints are compared with before they are resumed
            from; by default that of `run` and `args`.

    Raises:
        ValueError: if a setting of `args` is not supported.
    """

    def __init__(
        self,
        run: Run,
        args: TrainingArguments,
        *,
        record: Record | None = None,
        horizon: int | None = None,
        budget: float | None = None,
        decoding: Decoding = GREEDY,
        optimizer_cls_and_kwargs: OptimizerChoice | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        on_progress: Callable[[Status], object] | None = None,
    ) -> None:
        check_arguments(args)
        check_best(args, run.task)
        _adapt_arguments(args)
        self.objective = Objective(run.policy, run.method, args.seed)
        if args.world_size > 1 and args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = has_unused_parameters(
                run.policy, run.method, run.train, args.seed
            )
        self.task, self.decoding = run.task, decoding
        self.meter = Meter(budget)
        self.stop = SaveBeforeStop()
        super().__init__(
            model=self.objective,
            args=args,
            data_collator=_identity,
            train_dataset=Stream(run.train),
            eval_dataset=run.dev,
            processing_class=run.codec,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        epoch = len(run.train) / self.get_total_train_batch_size(args)
        if args.max_steps <= 0:
            args.max_steps = math.ceil(args.num_train_epochs * epoch)
        convert_epochs(args, epoch)
        self.horizon = horizon or args.max_steps
        self._record = record
        self._find_record = partial(build_record, run, args, self.horizon, optimizer_cls_and_kwargs)
        self._bars = [] if on_progress is None else [ProgressReporter(self.meter, on_progress)]
        self._replace_callbacks(callbacks)
        self.control: TrainerControl

    def _replace_callbacks(self, callbacks: Sequence[TrainerCallback]) -> None:
        """Add own callbacks and those of a user, in place of the progress bar of transformers."""
        quiet = self.args.disable_tqdm
        self.remove_callback(PrinterCallback if quiet else DEFAULT_PROGRESS_CALLBACK)
        if not quiet:
            self._bars.append(ProgressBar(self.meter))
        read, examples = self.get_total_train_batch_size(self.args), len(self.train_dataset)
        clock = ClockCallback(self.horizon, read, examples)
        # The clock comes before callbacks that read the epoch.
        own = self.meter, clock, LogWithEvaluation(), *self._bars
        for callback in (*own, *callbacks, self.stop):
            self.add_callback(callback)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train, optionally from a checkpoint.

        Args:
            resume_from_checkpoint: the folder of the checkpoint; True for the newest of the run.
            args: see transformers.
            kwargs: see transformers.

        Raises:
            CheckpointError: if the checkpoint cannot be read, or there is none.
            FloatingPointError: if the loss is not finite.
        """
        output = Path(self.args.output_dir)
        with name_dead_processes(), ExitStack() as stack:
            if self.args.should_save and self.args.save_strategy != "no":
                stack.enter_context(lock(output))
            if self.args.should_save and output.is_dir():
                sweep(output)
            self.accelerator.wait_for_everyone()
            if resume_from_checkpoint is True:
                found = find_intact_checkpoint(output)
                if found is None:
                    raise CheckpointError(f"{output}: there is no checkpoint to resume from")
                resume_from_checkpoint = str(found)
            if resume_from_checkpoint:
                check_resumable(Path(resume_from_checkpoint), self.record, self.args)
            for bar in self._bars:
                stack.callback(bar.stop)
            stack.callback(self.stop.restore)
            stack.enter_context(freeze_garbage(self.args.device))
            if not resume_from_checkpoint:
                # So dropout does not depend on what has drawn random numbers since construction.
                set_seed(self.args.seed)
            return super().train(resume_from_checkpoint or None, *args, **kwargs)

    @property
    def record(self) -> Record:
        """The record of the run."""
        # Built when it is needed, as it takes a digest of all examples.
        if self._record is None:
            self._record = self._find_record()
        return self._record

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save policy and codec, in the form that `load_policy` reads; the first process writes.

        All processes must call this where parameters are sharded.
        """
        state = gather_state(self.objective) if is_sharded(self.objective) else None
        folder = Path(output_dir or self.args.output_dir)
        # A checkpoint is a new folder, in which other processes may have written their files.
        new = _internal_call or not folder.is_dir() or not any(folder.iterdir())
        if new or not self.args.should_save:
            self._save(output_dir, state)
            if self.args.should_save and not _internal_call:
                write_digests(folder)
            return
        with report_save_errors(folder / "model", "the model"), replace_model(folder) as written:
            self._save(str(written), state)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """Create the learning rate schedule; after the horizon the rate is constant."""
        scheduler = super().create_scheduler(self.horizon, optimizer)
        if isinstance(scheduler, LambdaLR):
            scheduler.lr_lambdas = [_hold(rate, self.horizon) for rate in scheduler.lr_lambdas]
        return scheduler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; together with the loss, log the method's metrics since the last log."""
        if "loss" in logs:
            logs |= self._method_metrics()
        super().log(logs, start_time)

    def _method_metrics(self) -> dict[str, float]:
        """Return the means of the method's metrics over all ranks."""
        totals: dict[str, tuple[float, float]] = {}
        for sums in gather_object([self.objective.drain()]):
            for name, (total, count) in sums.items():
                before = totals.get(name, (0.0, 0.0))
                totals[name] = (before[0] + total, before[1] + count)
        return {name: total / count for name, (total, count) in totals.items()}

    def evaluate(
        self,
        eval_dataset: object = None,
        ignore_keys: object = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Compute the task's metrics of free-running outputs, and the teacher-forced loss.

        Args:
            eval_dataset: the data to evaluate on; by default those passed to the Trainer.
            ignore_keys: ignored; transformers passes it.
            metric_key_prefix: the prefix of the name of each metric.

        Raises:
            ValueError: if there is nothing to evaluate on.
        """
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if data is None:
            raise ValueError("evaluation needs an eval_dataset")
        examples = make_examples(data, self.processing_class, "eval_dataset")
        # The objective computes in mixed precision by itself only once `train` has wrapped it.
        with self.accelerator.autocast():
            written, loss = decode_in_processes(
                self.model_wrapped, self.objective.model, examples, self.decoding, self.args
            )
        figures = score(
            self.task.get_metrics(), self.processing_class, written.hypotheses, examples
        )
        figures = {**figures, **written.metrics, "teacher_forced_loss": loss}
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in figures.items()}
        self.log({**metrics, "seconds": self.meter.seconds})
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def describe(self, folder: Path) -> None:
        """Write the model card, with the metrics of the saved model if it was evaluated."""
        update = self.state.global_step if self.kept_update is None else self.kept_update
        entries = [entry for entry in self.state.log_history if entry["step"] == update]
        metrics = {
            name.removeprefix("eval_"): value
            for entry in entries
            for name, value in entry.items()
            if name.startswith("eval_")
        }
        Card(
            Path(self.args.output_dir).absolute().name,
            self.objective.model,
            self.processing_class,
            self.objective.method,
            self.task,
            self.decoding,
            self.args.to_dict(),
            update,
            metrics,
            asked=None if self.meter.budget is not None else self.args.max_steps,
            examples=len(self.train_dataset.examples),
        ).write(folder)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Not supported: use `freerun.evaluation`, which decodes and scores any examples.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "use freerun.evaluation.evaluate or decode_examples, or Trainer.evaluate"
        )


class Trainer(RunTrainer):
    """Trains a policy by a method, and evaluates it free-running.

    See `RunTrainer` for the properties of a run.

    Args:
        model: a Hugging Face causal model or encoder-decoder, its directory or its id on the hub; a
            PeftModel; or a policy, or the directory of one that freerun trained.
        method: the method, or its name or address (see `find_method`), with default settings.
        args: transformers' settings.
        processing_class: the tokenizer of the model, or the codec of a task; saved with the model.
            By default the tokenizer or codec in the model's directory. If the method needs a
            backspace and there is none, it is added to a copy and to the model (see
            `add_backspace`).
        train_dataset: the data to train on: a Dataset of the datasets library or a list of
            mappings, with the columns that the codec reads (see `TextCodec.encode`); or Examples of
            a task.
        eval_dataset: the data to evaluate on, likewise.
        peft_config: a configuration of peft: adapters are trained instead of the model's weights.
        dtype: the dtype in which weights are trained and saved, regardless of their present dtype;
            quantized ones do not change. The `bf16` of `args` only computes in bfloat16.
        task: the task, which defines the metrics; by default outputs are compared with references
            (see `GenericTask`).
        horizon: the number of updates that schedules are fitted to, after which they are constant;
            by default all updates.
        budget: the seconds of training after which to stop.
        decoding: how to decode in evaluations.
        optimizer_cls_and_kwargs: an optimizer and its settings, instead of that of `args`.
        callbacks: additional callbacks.

    Raises:
        ValueError: if a setting of `args` is not supported, something is missing, or model, method
            and data are incompatible.
        TypeError: if an argument is one of transformers' Trainer that is not needed here.
        DataError: if rows cannot be used.
        CheckpointError: if a model cannot be read.
        MissingExtraError: if `peft_config` is given and peft is not installed.
    """

    def __init__(
        self,
        model: Model,
        method: Method | str,
        args: TrainingArguments,
        processing_class: Processing | None = None,
        train_dataset: object = None,
        eval_dataset: object = None,
        *,
        peft_config: object = None,
        dtype: torch.dtype = torch.float32,
        task: Task | None = None,
        decoding: Decoding = GREEDY,
        **settings: Any,
    ) -> None:
        check_names(settings)
        data = Datasets(train_dataset, eval_dataset, processing_class)
        run = resolve(
            model, data, method, task=task, peft_config=peft_config, dtype=dtype, seed=args.seed
        )
        if run.dev is not None and decoding != GREEDY:
            check_decoding(run.policy, run.dev, decoding)
        super().__init__(run, args, decoding=decoding, **settings)


@torch.no_grad()
def decode_in_processes(
    objective: nn.Module,
    policy: Policy,
    examples: Examples,
    decoding: Decoding,
    args: TrainingArguments,
) -> tuple[DecodedExamples, float]:
    """Decode all examples freely, in one process or several.

    Decoding is done by the forward pass of the wrapped objective. Every process makes the same
    number of passes, since some wrappers require all processes to take part.

    Args:
        objective: the `Objective`, wrapped or not.
        policy: the policy in it.
        examples: the examples to decode.
        decoding: how to decode.
        args: transformers' settings, for the batch size and the rank of this process.

    Returns:
        The outputs of all examples, and the mean teacher-forced log loss of their target tokens.
    """
    work = batches_by_length(examples, args.eval_batch_size)
    found: list[tuple[list[int], DecodedExamples, float, int]] = []
    for start in range(0, len(work), args.world_size):
        mine = start + args.process_index
        numbers = work[mine] if mine < len(work) else work[0]
        batch = on_device(examples.batch(numbers), policy)
        output: dict[str, Any] = objective(**batch.tensors(), decoding=decoding)
        if mine < len(work):
            written = DecodedExamples.from_batch(
                policy.vocabulary, batch, output["decoded"], output["planted"]
            )
            count = int(find_writable(policy, batch).sum())
            found.append((numbers, written, float(output["teacher_forced"]), count))
    found = gather_object(found)
    count = sum(part[3] for part in found)  # 0 if training has none of the target tokens
    loss = sum(part[2] for part in found) / count if count else math.nan
    return DecodedExamples.join((part[0], part[1]) for part in found), loss


def _adapt_arguments(args: TrainingArguments) -> None:
    """Change arguments whose defaults are for models that are trained on columns of data."""
    # One process drives one device; several are started by a launcher.
    args._n_gpu = min(args.n_gpu, 1)
    args.logging_nan_inf_filter = False
    # Examples come as ready batches, not as columns.
    args.remove_unused_columns = False
    args.dataloader_pin_memory &= args.device.type == "cuda"


def _identity(batch: object) -> Any:
    return batch


def _hold(rate: Any, horizon: int) -> Any:
    return lambda step: rate(min(step, horizon))
