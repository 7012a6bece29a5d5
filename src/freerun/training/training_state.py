"""The files of a checkpoint besides the model: optimizer, random state, and state of the method."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerState
from transformers.trainer_callback import ExportableState

from freerun.errors import CheckpointError
from freerun.files import check_json, read_json, restore_nan, write
from freerun.methods import Method
from freerun.training.checkpoints import read_tensors
from freerun.training.sharding import is_sharded, optimizer_state, set_optimizer_state

STATE_FILE = "trainer_state.json"
_FULL = (Adam, AdamW, SGD, RMSprop, Adagrad, Adadelta, Adamax, NAdam, RAdam)
"""The optimizers whose state tensors have the shape of the parameter."""
OPTIMIZER_FILE, SCHEDULER_FILE = "optimizer.pt", "scheduler.pt"


def save_optimizer(
    folder: Path, module: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, writes: bool
) -> None:
    """Write the states of an optimizer and of its learning rate scheduler.

    All processes must call this where parameters are sharded.

    Args:
        folder: the checkpoint.
        module: the module to optimize, sharded or not.
        optimizer: the optimizer.
        scheduler: the learning rate scheduler.
        writes: whether this process writes.
    """
    sharded = is_sharded(module)
    state = optimizer_state(module, optimizer) if sharded else optimizer.state_dict()
    if writes:
        torch.save(state, folder / OPTIMIZER_FILE)
        torch.save(scheduler.state_dict(), folder / SCHEDULER_FILE)


def load_optimizer(
    folder: Path, module: nn.Module, optimizer: Optimizer, scheduler: LRScheduler
) -> None:
    """Load the files of `save_optimizer`.

    Raises:
        CheckpointError: if a file is missing, damaged, or from another run.
    """
    path = folder / OPTIMIZER_FILE
    with describe_read_errors(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_optimizer_state(state, module, optimizer)
        set_optimizer_state(module, optimizer, state)
    path = folder / SCHEDULER_FILE
    with describe_read_errors(path):
        state = torch.load(path, weights_only=True)
        _check_similar(state, scheduler.state_dict())
        here, there = scheduler.state_dict().get("base_lrs"), state.get("base_lrs")
        if here is not None and there != here:
            raise ValueError(f"the learning rates are {there} there, and {here} here")
        scheduler.load_state_dict(state)


def check_optimizer_state(state: object, module: nn.Module, optimizer: Optimizer) -> None:
    """Check that a state fits an optimizer and its parameters.

    The optimizers of torch do not check this: a tensor of another shape corrupts memory.

    Args:
        state: the state dict that was read.
        module: the module to optimize, sharded or not.
        optimizer: its optimizer.

    Raises:
        ValueError: if it does not. The message names the first difference.
    """
    if not isinstance(state, dict) or not {"state", "param_groups"} <= state.keys():
        raise ValueError("it is not the state of an optimizer")
    groups, own = state["param_groups"], optimizer.param_groups
    names = [name for group in groups for name in group["params"]]
    numbered = all(isinstance(name, int) for name in names)
    if numbered is is_sharded(module):
        had = "were not" if numbered else "were"
        raise ValueError(f"parameters {had} sharded when it was written; continue in the same way")
    parameters: dict[Any, Tensor] = dict(module.named_parameters())
    if not is_sharded(module):
        for saved, group in zip(groups, own, strict=True):
            missing = sorted(group.keys() - saved.keys())
            if missing:
                raise ValueError(f"it is of another optimizer, which has no {missing[0]!r}")
        flat = [parameter for group in own for parameter in group["params"]]
        parameters = dict(zip(names, flat, strict=True))
    # State tensors of others, such as Adafactor, may have fewer dimensions than the parameter.
    full = isinstance(optimizer, _FULL)
    kinds = {frozenset(kept) for kept in state["state"].values()}
    if len(kinds) > 1 and full:
        raise ValueError("its entries differ between parameters")
    for name, kept in state["state"].items():
        shape = parameters[name].shape
        for key, value in kept.items():
            if not isinstance(value, Tensor):
                continue
            if full and value.shape not in ((), shape):
                sizes = list(value.shape), list(shape)
                raise ValueError(f"{key} of parameter {name} has shape {sizes[0]}, not {sizes[1]}")
            if not value.is_floating_point() and value.shape == shape != ():
                raise ValueError(f"{key} of parameter {name} has dtype {value.dtype}")
            if not bool(value.isfinite().all()):
                raise ValueError(f"{key} of parameter {name} is not finite")


def _check_similar(found: object, own: Mapping[str, Any]) -> None:
    """Check that a state has the same fields and types as another one.

    Raises:
        ValueError: if it does not.
    """
    if not isinstance(found, dict):
        raise ValueError("it is not a state")
    for name, value in own.items():
        number = isinstance(value, int | float) and isinstance(found.get(name), int | float)
        if name not in found:
            raise ValueError(f"it has no {name!r}")
        if value is not None and type(found[name]) is not type(value) and not number:
            raise ValueError(f"{name} is a {type(found[name]).__name__}")


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
    """Load the file of `save_random_state`.

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
    write(folder / f"method{suffix}.json", json.dumps(rest, indent=1))


def load_method(method: Method, folder: Path, suffix: str) -> None:
    """Load the files of `save_method`.

    Raises:
        CheckpointError: if a file is missing or damaged.
    """
    if method.state_dict():
        tensors = read_tensors(folder / f"method{suffix}.safetensors")
        path = folder / f"method{suffix}.json"
        rest = read_json(path)
        with describe_read_errors(path):
            method.load_state_dict({**rest, **tensors})


@contextmanager
def describe_read_errors(path: Path) -> Iterator[None]:
    """Convert errors while reading a file to a `CheckpointError` that names it.

    Any exception while reading is an error of the file.

    Raises:
        CheckpointError: if the file is missing, damaged, or from another run.
    """
    try:
        yield
    except (CheckpointError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read ({reason})") from error


class _State(TypedDict):
    """The fields of transformers' TrainerState that a resumed run reads."""

    global_step: int
    max_steps: int
    epoch: float
    log_history: list[dict[str, Any]]
    best_metric: float | None
    best_global_step: int | None
    stateful_callbacks: dict[str, Any]


class _Exported(TypedDict):
    """The state of a callback, as transformers exports it."""

    args: dict[str, Any]
    attributes: dict[str, Any]


def read_state(folder: Path) -> TrainerState:
    """Read and check the state of a run in a checkpoint.

    Raises:
        CheckpointError: if the file is missing or damaged, or the state is of another update.
    """
    path = folder / STATE_FILE
    contents = read_json(path)
    names = get_type_hints(_State)
    check_json({k: v for k, v in contents.items() if k in names}, _State, str(path))
    for number, entry in enumerate(contents["log_history"]):
        where = f"{path}: log_history[{number}]"
        check_json(entry.get("step"), int, f"{where}.step")
        entry |= restore_nan({k: v for k, v in entry.items() if k.startswith("eval_")})
        for name in ("loss", "seconds"):
            check_json(entry.get(name, 0), float, f"{where}.{name}")
    for name, callback in contents["stateful_callbacks"].items():
        if not isinstance(callback, list):
            check_json(callback, _Exported, f"{path}: stateful_callbacks.{name}")
    with describe_read_errors(path):
        state = TrainerState(**contents)
    right = f"checkpoint-{state.global_step}"
    if folder.name.startswith("checkpoint-") and folder.name != right:
        raise CheckpointError(f"{path}: it is of update {state.global_step}")
    return state


def restore_callback(callback: ExportableState, state: Mapping[str, Any], path: Path) -> None:
    """Restore the attributes of a callback from its exported `state`.

    Raises:
        CheckpointError: if the attributes are others.
    """
    own = callback.state()["attributes"]
    with describe_read_errors(path):
        _check_similar(state["attributes"], own)
    for name in own:
        setattr(callback, name, state["attributes"][name])
