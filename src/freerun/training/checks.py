"""Check data, methods and transformers' settings before training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from freerun.data import DataError, Examples
from freerun.evaluation import Decoding, check_decoding, on_device
from freerun.methods import Clock, Method
from freerun.metrics import get_headline
from freerun.models.huggingface import HuggingFacePolicy
from freerun.policy import Policy
from freerun.settings import SettingError
from freerun.tasks.base import Task
from freerun.training.objective import Objective
from freerun.training.settings import CHECKPOINTING, TrainingSettings

_BATCH = 1024
"""The number of examples that are read together to measure their lengths."""
_TRIAL = 4
"""The number of examples on which a method is tried."""


def check_lengths(policy: Policy, examples: Examples, name: str, extra: int = 0) -> None:
    """Check that every example fits the positions of a model, if their number is bounded.

    Args:
        policy: the model.
        examples: sources, with the targets to force, if any.
        name: the name of the examples in messages.
        extra: the number of positions that an example takes in addition to its source and target.

    Raises:
        DataError: if one does not fit. The message has its number, counted from 1.
    """
    most, readable = policy.max_positions, policy.max_source_length
    if most is None:
        return
    for first in range(0, len(examples), _BATCH):
        batch = examples.batch(range(first, min(first + _BATCH, len(examples))))
        number = int(batch.source.lengths.argmax())
        length = int(batch.source.lengths[number])
        if readable is not None and length > readable:
            raise DataError(
                f"{name}, example {first + number + 1:,}: the source has {length:,} tokens, but "
                f"the model reads {readable:,}; shorten it, or train a model with more positions "
                "(--model.positions)"
            )
        taken = policy.prompt_lengths(batch.source) + batch.lengths.clamp(min=1) + extra
        number = int(taken.argmax())
        if taken[number] <= most:
            continue
        where = f"{name}, example {first + number + 1:,}"
        if not batch.lengths.any():
            raise DataError(
                f"{where}: the source leaves none of the {most:,} positions of the model to write "
                "at; shorten it"
            )
        raise DataError(
            f"{where}: source and target take {int(taken[number]):,} positions together, but the "
            f"model has {most:,}; shorten them, or train a model with more (--model.positions)"
        )


def try_method(
    policy: Policy, method: Method, examples: Examples, training: TrainingSettings
) -> None:
    """Compute the loss of a few examples as if halfway through training, and discard it.

    Raises:
        ValueError: if the method does not work with the model or the training settings.
    """
    if training.gradient_checkpointing and isinstance(policy, HuggingFacePolicy):
        # The name depends on the version of transformers.
        enable = getattr(policy, "activation_checkpointing_enable", None)
        (enable or policy.gradient_checkpointing_enable)(CHECKPOINTING)
    _try_loss(policy, method, examples, training.seed)


def has_unused_parameters(policy: Policy, method: Method, examples: Examples, seed: int) -> bool:
    """Return whether some trained parameters do not affect the loss of a few examples.

    Training in several processes depends on it.
    """
    objective, found = _try_loss(policy, method, examples, seed)
    found["loss"].backward()
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    unused = any(parameter.grad is None for parameter in trained)
    objective.zero_grad()
    return unused


def _try_loss(
    policy: Policy, method: Method, examples: Examples, seed: int
) -> tuple[Objective, dict[str, Any]]:
    """Compute the loss of a few examples, without changing the state of torch's generator."""
    batch = on_device(examples.batch(range(min(_TRIAL, len(examples)))), policy)
    with torch.random.fork_rng(devices=[]):
        objective = Objective(policy, method, seed).to(batch.ids.device).train()
        objective.clock = Clock(1, 2, seed)
        return objective, objective(**batch.tensors())


_NEUTRAL: dict[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0.0, "MLE has label_smoothing"),
    "push_to_hub": (False, "push the policy itself, once it is trained"),
    "deepspeed": (None, "use FSDP to shard parameters"),
    "use_liger_kernel": (False, "it replaces the loss of a model, which a method computes itself"),
    "neftune_noise_alpha": (None, "own tokens are written without noise; use dropout"),
    "bf16_full_eval": (False, "bf16 holds for evaluations too"),
    "fp16_full_eval": (False, "fp16 holds for evaluations too"),
    "average_tokens_across_devices": (True, "a loss is a mean over the tokens of all processes"),
    "torch_compile": (
        False,
        "roll-ins and roll-outs are loops, which are compiled again for every length",
    ),
    "auto_find_batch_size": (False, "set the size of batches"),
    "dataloader_drop_last": (False, "all batches are full"),
    "prediction_loss_only": (False, "an evaluation decodes freely and reports the task's metrics"),
    "batch_eval_metrics": (False, "metrics are those of the task"),
    "eval_accumulation_steps": (None, "an evaluation keeps tokens only"),
    "include_for_metrics": ([], "metrics are those of the task"),
    "label_names": (None, "the target is learned"),
    "train_sampling_strategy": ("random", "every epoch has its own random order"),
}
"""The only value of a setting of transformers that is supported, and why."""


def check_arguments(args: TrainingArguments) -> None:
    """Check that no setting of transformers is without effect or unsupported.

    Raises:
        ValueError: if one is. The message names it.
    """
    for name, (neutral, why) in _NEUTRAL.items():
        value = getattr(args, name, neutral)
        if value != neutral and (value or neutral):
            raise ValueError(f"{name}={value} is not supported: {why}")
    # The second name is the older one, which transformers keeps as an alias until version 6.
    name = next(
        name
        for name in ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
        if hasattr(args, name)
    )
    if (getattr(args, name) or {}).get("use_reentrant"):
        raise ValueError(
            f"{name}: use_reentrant=True is not supported, as a policy may run several times in an "
            "update; leave it out"
        )


_ABSENT = {
    "compute_metrics": "metrics are those of task",
    "preprocess_logits_for_metrics": "metrics are those of task",
    "compute_loss_func": "the loss is that of method",
    "data_collator": "rows are read as they are, and need none",
    "model_init": "give a model",
    "optimizers": "give optimizer_cls_and_kwargs, or choose an optimizer in args",
}
"""Arguments of transformers' Trainer that a method or a task replaces, and what to do instead."""


def check_names(settings: Iterable[str]) -> None:
    """Check that no argument is one of transformers' Trainer that freerun's does not have.

    Raises:
        TypeError: if one is. The message says what to do instead.
    """
    for name in settings:
        if name in _ABSENT:
            raise TypeError(f"Trainer has no argument {name}: {_ABSENT[name]}")


def check_best(args: TrainingArguments, task: Task) -> None:
    """Check that the metric that chooses the best checkpoint, or the learning rate, is reported.

    Raises:
        ValueError: if it is not. The message says what to set.
    """
    reported = [*task.get_metrics(), "teacher_forced_loss"]
    name = args.metric_for_best_model
    if name is None or name.removeprefix("eval_") in reported:
        return
    headline = get_headline(task.get_metrics())
    raise ValueError(
        f"metric_for_best_model={name!r} is not reported; known are {', '.join(reported)}; set "
        f"metric_for_best_model={headline.name!r}, greater_is_better={headline.greater_is_better}"
    )


def convert_epochs(args: TrainingArguments, epoch: float) -> None:
    """Convert intervals in epochs to updates, since a run is one stream of examples.

    Args:
        args: the training arguments, which are changed in place.
        epoch: the number of updates in an epoch.
    """
    for what in ("eval", "save", "logging"):
        if getattr(args, f"{what}_strategy") == IntervalStrategy.EPOCH:
            setattr(args, f"{what}_strategy", IntervalStrategy.STEPS)
            setattr(args, f"{what}_steps", math.ceil(epoch))


def check_model_decoding(policy: Policy, examples: Examples, decoding: Decoding) -> None:
    """Check that the model can be decoded in this way.

    Raises:
        SettingError: if it cannot.
    """
    try:
        check_decoding(policy, examples, decoding)
    except ValueError as error:
        raise SettingError(f"decoding: {error}") from None
