"""Reading checkpoints of every kind of model: nothing that is read is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from freerun.errors import CheckpointError
from freerun.policies import RecurrentConfig, RecurrentPolicy, adapt
from freerun.policies.loading import load_model
from freerun.policies.settings.base import disagreement
from freerun.tasks import load_codec
from freerun.tasks.base import Codec, DataError
from freerun.tasks.codec import FILE
from freerun.trainer.reading import (
    ADAPTER_CONFIG,
    ADAPTERS,
    CONFIG,
    WEIGHTS,
    check_weights,
    read_json,
    read_tensors,
)
from freerun.trainer.weights import load_weights

AnyPolicy = Any
"""A module that is a Policy, for which Python has no type."""


def load_policy(directory: str | Path, codec: type[Codec] | None = None) -> tuple[AnyPolicy, Codec]:
    """The policy in a checkpoint or a finished run, and what it reads and writes.

    Of adapters, the model that they belong to is loaded from where it was when they were trained.

    Args:
        directory: the folder.
        codec: the kind of codec; left out, that of freerun's own task that codec.json names.

    Raises:
        CheckpointError: where a file is missing, damaged or of another kind of model; it is named.
        MissingExtraError: where it holds adapters, and peft is not installed.
    """
    folder = Path(directory)
    if not (folder / ADAPTER_CONFIG).exists():
        contents = read_json(folder / CONFIG)
        if contents.get("model_type") == RecurrentConfig.model_type:
            return _recurrent(folder, contents, codec)
    found = _codec(folder, codec)
    if found.limit is None:
        raise CheckpointError(f"{folder}: outputs of the task {found.task} are not text")
    with torch.random.fork_rng(devices=[]):
        model = load_model(str(folder), codec=found, dtype=_dtype(folder))
        try:
            policy = adapt(model, found.target, limit=found.limit, shared=found.shared)
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}") from None
    return policy.eval(), found


def _recurrent(
    folder: Path, contents: dict[str, Any], codec: type[Codec] | None
) -> tuple[RecurrentPolicy, Codec]:
    try:
        config = RecurrentConfig.from_dict(contents)
        with torch.random.fork_rng(devices=[]):
            policy = RecurrentPolicy(config).to(config.dtype or torch.float32)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    load_weights(policy, folder / WEIGHTS)
    found = _codec(folder, codec)
    difference = disagreement(config, found)
    if difference is not None:
        raise CheckpointError(f"{folder}: config.json and codec.json disagree: {difference}")
    return policy.eval(), found


def _codec(folder: Path, codec: type[Codec] | None) -> Codec:
    if not (folder / FILE).exists():
        raise CheckpointError(
            f"{folder / FILE}: there is no such file, so freerun did not train this model; go on "
            f"from it first: freerun train TASK --model {folder}"
        )
    try:
        return load_codec(str(folder)) if codec is None else codec.from_pretrained(str(folder))
    except DataError as error:
        raise CheckpointError(str(error)) from None


def _dtype(folder: Path) -> torch.dtype:
    """What weights were kept in; those of adapters say nothing of the model beneath."""
    if (folder / ADAPTER_CONFIG).exists():
        read_tensors(folder / ADAPTERS)
        return torch.float32
    check_weights(folder)
    contents = read_json(folder / CONFIG)
    name = contents.get("dtype") or contents.get("torch_dtype") or "float32"
    found = getattr(torch, str(name), None)
    if not isinstance(found, torch.dtype):
        raise CheckpointError(f"{folder / CONFIG}: unknown dtype {name!r}")
    return found
