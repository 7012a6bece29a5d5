"""The settings of training that a user chooses."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from transformers import TrainingArguments

from freerun.metrics import get_headline
from freerun.models.huggingface import HuggingFacePolicy
from freerun.models.settings.base import ModelSettings, TrainingDefaults
from freerun.policy import Policy
from freerun.settings import check_seed
from freerun.tasks.base import Task
from freerun.training.trackers import TRACKERS, require_trackers

OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop"]
OptimizerChoice = tuple[type[Optimizer], dict[str, Any]]
"""The class of an optimizer, and its settings."""
LearningRateSchedule = Literal["constant", "linear", "cosine", "inverse_sqrt"]
PrecisionName = Literal["fp32", "bf16", "fp16"]

_OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "rmsprop": RMSprop,
}
_WITH_MOMENTUM = ("sgd", "rmsprop")
CHECKPOINTING = {"use_reentrant": False}
"""The settings of gradient checkpointing."""
MAX_THREADS = 1_024
MOST_UPDATES, MOST_BETWEEN = 10_000, 500
"""The maximum of the default numbers of updates, and of updates between evaluations."""
_MAX_UPDATES = 10**9
"""More updates than fit into any budget of seconds."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings of training.

    Args:
        updates: the number of updates, if no budget is given; by default those of 60 epochs, 1000
            to 10000, and for a pretrained model of 5 epochs, 100 to 10000.
        budget: seconds of training, without evaluating and saving, instead of `updates`. The number
            of updates that fit is estimated first, and schedules are fitted to it.
        batch_size: the number of examples in a batch, over all processes together.
        accumulation: the number of batches in an update.
        learning_rate: the peak learning rate; by default 1e-3, for a pretrained model 5e-5, and for
            adapters 2e-4.
        optimizer: `adam`, `adamw`, `sgd` or `rmsprop`.
        momentum: momentum of `sgd` and `rmsprop`, in [0, 1).
        weight_decay: weight decay of all weights except biases and those of normalization:
            decoupled for `adamw`, otherwise an L2 penalty.
        lr_schedule: the learning rate after the warm-up: `constant`, `linear` or `cosine` to zero,
            or `inverse_sqrt`.
        warmup: updates in which the learning rate rises from zero; below 1, a fraction of the run.
        clip: the maximum norm of the gradient, to which larger ones are scaled; 0 for no limit.
        precision: `fp32`, or mixed precision with `bf16`, or `fp16` (on a GPU).
        gradient_checkpointing: whether hidden states inside layers are recomputed for the gradient,
            which needs less memory and more time; not supported by recurrent models.
        evaluate_every: updates between evaluations on dev; each is followed by a checkpoint. By
            default a tenth of the updates, at most 500.
        eval_batch_size: the number of examples that a process decodes together in evaluations.
        patience: stop after this many evaluations without improvement; by default never.
        keep: the model that is saved at the end, the `best` on dev or the `last`.
        seed: the seed of initial weights, order, noise and coins.
        report_to: the trackers that log the run: `tensorboard`, `wandb`, `mlflow`, `trackio`.
        threads: the number of CPU threads; by default the number of available CPUs, and in a
            comparison one.

    Raises:
        ValueError: if a setting is out of range or has no effect.
    """

    updates: int | None = None
    budget: float | None = None
    batch_size: int = 64
    accumulation: int = 1
    learning_rate: float | None = None
    optimizer: OptimizerName = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    lr_schedule: LearningRateSchedule = "constant"
    warmup: float = 0.0
    clip: float = 5.0
    precision: PrecisionName = "fp32"
    gradient_checkpointing: bool = False
    evaluate_every: int | None = None
    eval_batch_size: int = 256
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    report_to: tuple[str, ...] = ()
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in (
            "updates",
            "batch_size",
            "accumulation",
            "evaluate_every",
            "eval_batch_size",
            "patience",
            "threads",
        ):
            value = getattr(self, name)
            self._check(name, value is None or value >= 1, "at least 1")
        for name in ("budget", "learning_rate"):
            value = getattr(self, name)
            self._check(name, value is None or value > 0, "above 0")
        for name in ("weight_decay", "warmup", "clip"):
            self._check(name, getattr(self, name) >= 0, "at least 0")
        self._check("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        check_seed(self.seed)
        # OpenMP ends the process if it cannot start as many.
        self._check("threads", (self.threads or 1) <= MAX_THREADS, f"at most {MAX_THREADS}")
        for name, choices in (
            ("optimizer", OptimizerName),
            ("lr_schedule", LearningRateSchedule),
            ("precision", PrecisionName),
            ("keep", Literal["best", "last"]),
        ):
            known = get_args(choices)
            self._check(name, getattr(self, name) in known, f"one of {', '.join(known)}")
        for name in self.report_to:
            if name not in TRACKERS:
                raise ValueError(f"report_to is {name}; it must be one of {', '.join(TRACKERS)}")
        if self.momentum > 0 and self.optimizer not in _WITH_MOMENTUM:
            raise ValueError(
                f"momentum has no effect on optimizer={self.optimizer}; "
                f"{' and '.join(_WITH_MOMENTUM)} have it"
            )

    def _check(self, name: str, holds: bool, required: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)}; it must be {required}")

    def complete(
        self, rows: int | None = None, model: ModelSettings | None = None
    ) -> tuple[TrainingSettings, list[str]]:
        """Fill in the settings that depend on the data and the kind of model.

        Args:
            rows: the number of training examples; None if it is unknown.
            model: the settings of the model; by default one that is trained from scratch.

        Returns:
            Settings with all numbers, and notes on those that were chosen here.
        """
        defaults: TrainingDefaults = TrainingDefaults() if model is None else model.defaults
        chosen: dict[str, Any] = {}
        notes = []
        if self.updates is None:
            chosen["updates"] = MOST_UPDATES
            if rows is not None:
                size = self.batch_size * self.accumulation
                wanted = math.ceil(defaults.epochs * rows / size)
                chosen["updates"] = min(max(wanted, defaults.least_updates), MOST_UPDATES)
                epochs = chosen["updates"] * size / rows
                notes.append(
                    f"{chosen['updates']:,} updates of {size} examples: {epochs:.3g} epochs"
                )
            if self.budget is not None:
                notes.clear()
        if self.evaluate_every is None:
            updates = self.updates or chosen["updates"]
            chosen["evaluate_every"] = min(max(updates // 10, 1), MOST_BETWEEN)
            if self.budget is not None:
                chosen["evaluate_every"] = MOST_BETWEEN
        if self.learning_rate is None:
            chosen["learning_rate"] = defaults.learning_rate
            notes.append(f"learning rate {defaults.learning_rate:g}, that for {defaults.what}")
        return replace(self, **chosen), notes

    def check(self, policy: Policy) -> None:
        """Check that a policy can be trained with these settings.

        Raises:
            ValueError: if it cannot.
        """
        able = isinstance(policy, HuggingFacePolicy) and policy.supports_gradient_checkpointing
        if self.gradient_checkpointing and not able:
            raise ValueError(
                f"gradient_checkpointing=true has no effect on {type(policy).__name__}; "
                "causal and seq2seq models have it"
            )

    @property
    def optimizer_cls_and_kwargs(self) -> OptimizerChoice:
        """The optimizer, in the form that `Trainer` accepts."""
        settings: dict[str, Any] = {"lr": self.complete()[0].learning_rate}
        if self.optimizer in _WITH_MOMENTUM:
            settings["momentum"] = self.momentum
        if self.optimizer != "rmsprop":
            # Fused kernels need one pass over the weights; rmsprop has none.
            settings["fused"] = True
        return _OPTIMIZERS[self.optimizer], settings

    def arguments(self, output: Path, task: Task, *, quiet: bool = False) -> TrainingArguments:
        """Return the settings as transformers' TrainingArguments, for a run in `output`.

        This selects the device and, under a launcher, initializes the process group.

        Args:
            output: the folder of the run.
            task: the task, whose headline metric determines the best checkpoint.
            quiet: show no progress.

        Raises:
            ValueError: if the device does not support a setting, or a batch cannot be divided
                evenly between the processes.
            MissingExtraError: if a tracker of `report_to` is not installed.
        """
        require_trackers(self.report_to)
        found, _ = self.complete()
        evaluate_every = cast(int, found.evaluate_every)
        gpu = _has_gpu()
        if self.precision == "fp16" and not gpu:
            raise ValueError("precision=fp16 needs a GPU; use bf16 or fp32 on the CPU")
        headline = get_headline(task.get_metrics())
        arguments = TrainingArguments(
            output_dir=str(output),
            use_cpu=not gpu,
            max_steps=cast(int, found.updates) if self.budget is None else _MAX_UPDATES,
            gradient_accumulation_steps=self.accumulation,
            per_device_eval_batch_size=self.eval_batch_size,
            learning_rate=cast(float, found.learning_rate),
            weight_decay=self.weight_decay,
            lr_scheduler_type=self._schedule,
            warmup_steps=self.warmup,
            max_grad_norm=self.clip,
            bf16=self.precision == "bf16",
            fp16=self.precision == "fp16",
            **self._checkpointing,
            eval_strategy="steps",
            eval_steps=evaluate_every,
            save_strategy="steps",
            save_steps=evaluate_every,
            save_total_limit=2,
            load_best_model_at_end=self.keep == "best",
            metric_for_best_model=headline.name,
            greater_is_better=headline.greater_is_better,
            logging_steps=min(evaluate_every, 50),
            report_to=list(self.report_to) or "none",
            disable_tqdm=quiet,
            seed=self.seed,
        )
        if self.batch_size % arguments.world_size:
            raise ValueError(
                f"batch_size is {self.batch_size}; it must be a multiple of the "
                f"{arguments.world_size} processes"
            )
        arguments.per_device_train_batch_size = self.batch_size // arguments.world_size
        return arguments

    @property
    def _checkpointing(self) -> dict[str, Any]:
        if not self.gradient_checkpointing:
            return {}
        # The name depends on the version of transformers.
        known = {setting.name for setting in fields(TrainingArguments)}
        names = [f"{kind}_checkpointing" for kind in ("activation", "gradient")]
        name = next(name for name in names if name in known)
        return {name: True, f"{name}_kwargs": CHECKPOINTING}

    @property
    def _schedule(self) -> str:
        if self.lr_schedule == "constant" and self.warmup > 0:
            return "constant_with_warmup"
        return self.lr_schedule


def _has_gpu() -> bool:
    """Return whether to use a GPU; it must support float64, in which samples are drawn (not MPS).

    A launcher may have been configured to use the CPU.
    """
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
        return False
    return torch.cuda.is_available() or torch.xpu.is_available()
