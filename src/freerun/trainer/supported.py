"""What of transformers' settings this Trainer refuses, rather than pass over in silence."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from freerun.evaluate import GREEDY, Decoding, check_decoding
from freerun.tasks.base import Examples

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
