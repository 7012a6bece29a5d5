"""The files of a checkpoint beside the model: optimizer, random state, and state of the method."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from freerun.errors import CheckpointError
from freerun.methods import Method
from freerun.training.checkpoints import read_json_object, read_tensors
from freerun.training.sharding import is_sharded, optimizer_state, set_optimizer_state

STATE_FILE = "trainer_state.json"
OPTIMIZER_FILE, SCHEDULER_FILE = "optimizer.pt", "scheduler.pt"


def save_optimizer(
    folder: Path, module: nn.Module, optimizer: Optimizer, scheduler: Any, writes: bool
) -> None:
    """Write the states of an optimizer and of its learning rate scheduler.

    All processes must call this where parameters are sharded.

    Args:
        folder: the checkpoint.
        module: what is optimized, sharded or not.
        optimizer: the optimizer.
        scheduler: the learning rate scheduler.
        writes: whether this process writes.
    """
    sharded = is_sharded(module)
    state = optimizer_state(module, optimizer) if sharded else optimizer.state_dict()
    if writes:
        torch.save(state, folder / OPTIMIZER_FILE)
        torch.save(scheduler.state_dict(), folder / SCHEDULER_FILE)


def load_optimizer(folder: Path, module: nn.Module, optimizer: Optimizer, scheduler: Any) -> None:
    """Load what `save_optimizer` wrote.

    Raises:
        CheckpointError: if a file is missing, damaged, or from another run.
    """
    path = folder / OPTIMIZER_FILE
    with describe_read_errors(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        set_optimizer_state(module, optimizer, state)
    path = folder / SCHEDULER_FILE
    with describe_read_errors(path):
        scheduler.load_state_dict(torch.load(path, weights_only=True))


def save_random_state(folder: Path, suffix: str, device: torch.device) -> None:
    """Write the states of the random generators of this process.

    Args:
        folder: the checkpoint.
        suffix: the suffix of this process's file names.
        device: the device of this process.
    """
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    state: dict[str, Any] = {
        "python": random.getstate(),
        # As a tensor: `weights_only` refuses arrays of numpy.
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "cpu": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state(device)
    torch.save(state, folder / f"rng_state{suffix}.pth")


def load_random_state(folder: Path, suffix: str, device: torch.device) -> None:
    """Load what `save_random_state` wrote.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    path = folder / f"rng_state{suffix}.pth"
    with describe_read_errors(path):
        state = torch.load(path, weights_only=True)
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def save_method(method: Method, folder: Path, suffix: str) -> None:
    """Write the state of a method: tensors as safetensors, the rest as JSON.

    Args:
        method: the method; it may have no state.
        folder: the checkpoint.
        suffix: the suffix of this process's file names.
    """
    state = method.state_dict()
    if not state:
        return
    tensors = {k: v.contiguous() for k, v in state.items() if isinstance(v, Tensor)}
    rest = {k: v for k, v in state.items() if not isinstance(v, Tensor)}
    safetensors.torch.save_file(tensors, folder / f"method{suffix}.safetensors")
    path = folder / f"method{suffix}.json"
    path.write_text(json.dumps(rest, indent=1), encoding="utf-8")


def load_method(method: Method, folder: Path, suffix: str) -> None:
    """Load what `save_method` wrote.

    Raises:
        CheckpointError: if a file is missing or damaged.
    """
    if method.state_dict():
        tensors = read_tensors(folder / f"method{suffix}.safetensors")
        rest = read_json_object(folder / f"method{suffix}.json")
        method.load_state_dict({**rest, **tensors})


@contextmanager
def describe_read_errors(path: Path) -> Iterator[None]:
    """Turn errors while reading a file into a `CheckpointError` that names it.

    Raises:
        CheckpointError: if the file is missing, damaged, or from another run.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read ({reason})") from error
