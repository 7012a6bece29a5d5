"""What can be known before training: whether examples fit a model, and a method suits it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch

from freerun.evaluate import on_device
from freerun.methods.base import Clock, Method
from freerun.tasks.base import Data, DataError, Examples
from freerun.trainer.settings import CHECKPOINTING, TrainingSettings

AT_ONCE = 1024
FEW = 4


def check_data(policy: Any, data: Data, methods: Iterable[Method]) -> None:
    """See that every example of a task fits the positions of a model (see `check_lengths`).

    Some methods read more of examples to train on than their targets have.

    Raises:
        DataError: where one does not; its split and its number are named.
    """
    more = max(getattr(method, "extra_positions", 0) for method in methods)
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
    most, readable = getattr(policy, "positions", None), getattr(policy, "readable", None)
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
        taken = policy.before(batch.source) + batch.lengths.clamp(min=1) + extra
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
        copy.deepcopy(method).loss(policy.train(), batch, Clock(1, 2))
