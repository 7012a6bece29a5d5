"""Reading checkpoints: safetensors and JSON only, and every name and shape is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from freerun.errors import CheckpointError
from freerun.policies import RecurrentConfig, RecurrentPolicy
from freerun.tasks import load_codec
from freerun.tasks.base import Codec, DataError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def load_policy(
    directory: str | Path, codec: type[Codec] | None = None
) -> tuple[RecurrentPolicy, Codec]:
    """The policy in a checkpoint or a finished run, and what it reads and writes.

    Args:
        directory: the folder.
        codec: the kind of codec; left out, that of freerun's own task that codec.json names.

    Raises:
        CheckpointError: where a file is missing, damaged or of another kind of model; it is named.
    """
    folder = Path(directory)
    contents = read_json(folder / CONFIG)
    kind = contents.get("model_type")
    if kind != RecurrentConfig.model_type:
        raise CheckpointError(
            f"{folder / CONFIG}: model_type is {kind!r}; it must be {RecurrentConfig.model_type!r}"
        )
    try:
        config = RecurrentConfig.from_dict(contents)
        with torch.random.fork_rng(devices=[]):
            policy = RecurrentPolicy(config).to(config.dtype or torch.float32)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    load_weights(policy, folder / WEIGHTS)
    try:
        found = load_codec(str(folder)) if codec is None else codec.from_pretrained(str(folder))
    except DataError as error:
        raise CheckpointError(str(error)) from None
    difference = disagreement(config, found)
    if difference is not None:
        raise CheckpointError(f"{folder}: config.json and codec.json disagree: {difference}")
    return policy.eval(), found


def disagreement(config: RecurrentConfig, codec: Codec) -> str | None:
    """How a policy's vocabulary and inputs differ from a codec's, if they do."""
    target = codec.target
    for name, own, wanted in (
        ("features", config.features, codec.features),
        ("factors", list(config.factors), list(codec.factors)),
        ("the number of symbols", len(config.symbols), len(target.symbols)),
        ("bos", config.bos, target.bos),
        ("pad", config.pad, target.pad),
        ("eos", config.eos, target.eos),
        ("backspace", config.backspace, target.backspace),
        ("unknown", config.unknown, target.unknown),
    ):
        if own != wanted:
            return f"{name} of the model is {own}, of the task {wanted}"
    for i, (symbol, other) in enumerate(zip(config.symbols, target.symbols, strict=True)):
        if symbol != other:
            return f"symbol {i} of the model is {symbol!r}, of the task {other!r}"
    return None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file.

    Raises:
        CheckpointError: where there is no such file, or it is damaged.
    """
    _expect(path)
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: truncated or damaged ({error})") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: where there is no such file, or it holds no JSON object.
    """
    _expect(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: it must hold a JSON object")
    return found


def load_weights(module: nn.Module, path: Path) -> None:
    """Load all weights of a module from a safetensors file.

    Raises:
        CheckpointError: where there is no such file, it is damaged, or its weights are those of
            another model; the first that differs is named.
    """
    found, own = read_tensors(path), module.state_dict()
    # Of weights that are tied, a file holds one.
    there = {value.data_ptr() for name, value in own.items() if name in found}
    faults = []
    for name, value in own.items():
        if name not in found and value.data_ptr() not in there:
            faults.append(f"{name} is missing")
        elif name in found and found[name].shape != value.shape:
            shapes = list(found[name].shape), list(value.shape)
            faults.append(f"{name} has shape {shapes[0]}, not {shapes[1]}")
    faults += [f"{name} is not part of it" for name in sorted(found.keys() - own.keys())]
    if faults:
        raise CheckpointError(f"{path}: weights of another model: {faults[0]}")
    module.load_state_dict(found, strict=False)


def _expect(path: Path) -> None:
    if not path.parent.is_dir():
        raise CheckpointError(f"{path.parent}: there is no such directory")
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; is {path.parent} a checkpoint?")
