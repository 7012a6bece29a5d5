"""What of transformers' settings this Trainer refuses, rather than pass over in silence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from freerun.data import Data, DataError, Examples
from freerun.evaluation import GREEDY, Decoding, check_decoding, on_device
from freerun.methods import Clock, Method
from freerun.training.objective import Objective
from freerun.training.settings import CHECKPOINTING, TrainingSettings

AT_ONCE = 1024
FEW = 4


def check_data(policy: Any, data: Data, methods: Iterable[Method]) -> None:
    """See that every example of a task fits the positions of a model (see `check_lengths`).

    Some methods read more of examples to train on than their targets have.

    Raises:
        DataError: where one does not; its split and its number are named.
    """
    more = max(method.extra_positions for method in methods)
    for name, extra in (("train", more), ("dev", 0), ("test", 0)):
        check_lengths(policy, getattr(data, name), name, extra)


def check_lengths(policy: Any, examples: Examples, name: str, extra: int = 0) -> None:
    """See that every example fits the positions of a model, where it has a bounded number of them.

    Args:
        policy: the model.
        examples: sources to read, with the targets that are to be forced, if any.
        name: what to call the examples.
        extra: how many more positions than its target an example takes.

    Raises:
        DataError: where one does not fit; its number, counted from 1, is named.
    """
    most, readable = policy.max_positions, policy.max_source_length
    if most is None:
        return
    for first in range(0, len(examples), AT_ONCE):
        batch = examples.batch(range(first, min(first + AT_ONCE, len(examples))))
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


def rehearse(policy: Any, method: Method, data: Data, training: TrainingSettings) -> None:
    """Compute the loss of a few examples half-way through training, and throw it away.

    Raises:
        ValueError: where the method does not suit the model, or the way it is trained.
    """
    numbers = range(min(FEW, len(data.train)))
    batch = on_device(data.train.batch(numbers), policy)
    if training.gradient_checkpointing:
        # It was called otherwise before.
        enable = getattr(policy, "activation_checkpointing_enable", None)
        (enable or policy.gradient_checkpointing_enable)(CHECKPOINTING)
    with torch.random.fork_rng(devices=[]):
        objective = Objective(policy, method, training.seed).to(batch.ids.device).train()
        objective.clock = Clock(1, 2, training.seed)
        objective(**batch.tensors())


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
        "roll-ins and roll-outs are loops, which compile anew at every length",
    ),
    "auto_find_batch_size": (False, "set the size of batches"),
    "dataloader_drop_last": (False, "all batches are full"),
    "prediction_loss_only": (False, "an evaluation decodes freely and reports the task's metrics"),
    "batch_eval_metrics": (False, "metrics are those of the task"),
    "eval_accumulation_steps": (None, "an evaluation keeps tokens only"),
    "include_for_metrics": ([], "metrics are those of the task"),
    "label_names": (None, "what is learnt is the target"),
    "train_sampling_strategy": ("random", "every epoch has a random order of its own"),
}
"""The only value that is supported, and why."""


def check(
    args: TrainingArguments,
    train: Examples,
    dev: Examples | None,
    policy: Any,
    decoding: Decoding,
) -> None:
    """Refuse what would have no effect, or cannot work.

    Raises:
        ValueError: naming the setting, or what is missing.
    """
    for name, (neutral, why) in _NEUTRAL.items():
        value = getattr(args, name, neutral)
        if value != neutral and (value or neutral):
            raise ValueError(f"{name}={value} is not supported: {why}")
    if (args.activation_checkpointing_kwargs or {}).get("use_reentrant"):
        raise ValueError(
            "activation_checkpointing_kwargs: use_reentrant=True is not supported, as a policy may "
            "run several times in an update; leave it out"
        )
    if len(train) == 0:
        raise ValueError("there are no examples to train on")
    if dev is not None and len(dev) == 0:
        raise ValueError("there are no examples to evaluate on")
    if policy.vocabulary.backspace is not None:  # whatever withdraws, in training too, needs this
        check_decoding(policy, train, GREEDY)
    if dev is not None and decoding != GREEDY:
        check_decoding(policy, dev, decoding)


def in_updates(args: TrainingArguments, epoch: float) -> None:
    """Express in updates what is to be done every epoch: a run is one stream of examples.

    Args:
        args: changed in place.
        epoch: the updates of an epoch.
    """
    for what in ("eval", "save", "logging"):
        if getattr(args, f"{what}_strategy") == IntervalStrategy.EPOCH:
            setattr(args, f"{what}_strategy", IntervalStrategy.STEPS)
            setattr(args, f"{what}_steps", math.ceil(epoch))
