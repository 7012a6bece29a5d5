"""What of transformers' settings this Trainer refuses, rather than pass over in silence."""

from __future__ import annotations

from typing import Any

from transformers import TrainingArguments

from freerun.tasks.base import Examples, Task

_NEUTRAL: dict[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0.0, "MLE has label_smoothing"),
    "push_to_hub": (False, "push the policy itself, once it is trained"),
    "fsdp": (None, "parameters are not sharded"),
    "deepspeed": (None, "parameters are not sharded"),
    "bf16_full_eval": (False, "bf16 holds for evaluations too"),
    "fp16_full_eval": (False, "fp16 holds for evaluations too"),
    "average_tokens_across_devices": (True, "a loss is a mean over the tokens of all processes"),
    "train_sampling_strategy": ("random", "every epoch has a random order of its own"),
}
"""The only value that is supported, and why."""


def check(
    args: TrainingArguments, train: Examples, dev: Examples | None, task: Task | None
) -> None:
    """Refuse what would have no effect, or cannot work.

    Raises:
        ValueError: naming the setting, or what is missing.
    """
    for name, (neutral, why) in _NEUTRAL.items():
        value = getattr(args, name, neutral)
        if value != neutral and (value or neutral):
            raise ValueError(f"{name}={value} is not supported: {why}")
    if len(train) == 0:
        raise ValueError("there are no examples to train on")
    if dev is not None and len(dev) == 0:
        raise ValueError("there are no examples to evaluate on")
    if args.eval_strategy != "no" and task is None:
        raise ValueError("evaluation needs a task, which knows its metrics")
