"""Files of a checkpoint: safetensors and JSON only; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from freerun.errors import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTERS = "adapter_model.safetensors"


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


def check_weights(folder: Path) -> None:
    """See that the safetensors of a model, in one file or several, are there and whole.

    Raises:
        CheckpointError: where they are not; the file is named.
    """
    files = [folder / WEIGHTS]
    if (folder / INDEX).exists():
        index = read_json(folder / INDEX).get("weight_map")
        if not isinstance(index, dict):
            raise CheckpointError(f"{folder / INDEX}: the field 'weight_map' is missing")
        files = [folder / name for name in sorted(set(index.values()))]
    for path in files:
        _expect(path)
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: truncated or damaged ({error})") from None


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


def _expect(path: Path) -> None:
    if not path.parent.is_dir():
        raise CheckpointError(f"{path.parent}: there is no such directory")
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; is {path.parent} a checkpoint?")
