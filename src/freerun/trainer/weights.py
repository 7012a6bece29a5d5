"""The weights of a policy of any kind, to a folder and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from freerun.errors import CheckpointError
from freerun.policies.huggingface import HuggingFacePolicy
from freerun.policies.huggingface.tables import of_rows
from freerun.policies.loading import load_model
from freerun.trainer.progress import hushed
from freerun.trainer.reading import ADAPTERS, WEIGHTS, check_weights, read_tensors

State = dict[str, Tensor]


def adapted(policy: Any) -> bool:
    """Whether it is adapters that are trained and saved, not the model that they belong to."""
    return isinstance(policy, HuggingFacePolicy) and hasattr(policy.model, "peft_config")


def save_weights(policy: Any, folder: Path, state: State | None = None) -> None:
    """Save a policy as `save_pretrained` of its library does, as safetensors.

    Args:
        policy: the policy.
        folder: where to; it is made.
        state: all weights, by their names in the policy, where it does not have them whole itself.
    """
    with hushed():
        if state is None:
            policy.save_pretrained(folder)
        elif isinstance(policy, HuggingFacePolicy):
            policy.save_pretrained(
                folder, state_dict={k.removeprefix("model."): v for k, v in state.items()}
            )
        else:
            policy.save_pretrained(folder, state_dict=state)


def saved_weights(policy: Any, folder: Path) -> State:
    """What a folder holds of the weights of a policy, by their names in it.

    Raises:
        CheckpointError: where a file is missing or damaged, or its weights are of another model.
    """
    if adapted(policy):
        return _saved_adapters(policy, folder / ADAPTERS)
    if isinstance(policy, HuggingFacePolicy):
        check_weights(folder)
        # Names in a file may be older than those in the model: transformers knows both.
        found = load_model(str(folder), dtype=policy.dtype).state_dict()
        state = {f"model.{name}": value for name, value in found.items()}
        _agree(state, policy.state_dict(), folder)
        return state
    state = read_tensors(folder / WEIGHTS)
    _agree(state, policy.state_dict(), folder / WEIGHTS)
    return state


def load_weights(module: nn.Module, path: Path) -> None:
    """Load all weights of a module from a safetensors file.

    Raises:
        CheckpointError: where there is no such file, it is damaged, or its weights are those of
            another model; the first that differs is named.
    """
    found = read_tensors(path)
    _agree(found, module.state_dict(), path)
    module.load_state_dict(found, strict=False)


def adapter_names(policy: HuggingFacePolicy) -> dict[str, str]:
    """What the weights of adapters are called in a file, and in the policy.

    Raises:
        ValueError: where the file would hold other tensors than the model does.
    """
    from peft import get_peft_model_state_dict

    state = policy.model.state_dict()
    names = {id(value): name for name, value in state.items()}
    found = get_peft_model_state_dict(policy.model, state_dict=state, **of_rows(policy.model))
    strange = [name for name, value in found.items() if id(value) not in names]
    if strange:
        raise ValueError(f"adapters of this kind cannot be saved: {strange[0]} is made when saved")
    return {name: f"model.{names[id(value)]}" for name, value in found.items()}


def _saved_adapters(policy: HuggingFacePolicy, path: Path) -> State:
    found, names, own = read_tensors(path), adapter_names(policy), policy.state_dict()
    _agree(found, {name: own[full] for name, full in names.items()}, path)
    return {names[name]: value for name, value in found.items()}


def _agree(found: State, own: State, path: Path) -> None:
    """See that weights are those of a module.

    Raises:
        CheckpointError: where they are not; the first that differs is named.
    """
    # Of weights that are tied, a file holds one.
    there = {_place(value) for name, value in own.items() if name in found}
    faults = []
    for name, value in own.items():
        if name not in found and _place(value) not in there:
            faults.append(f"{name} is missing")
        elif name in found and found[name].shape != value.shape:
            shapes = list(found[name].shape), list(value.shape)
            faults.append(f"{name} has shape {shapes[0]}, not {shapes[1]}")
    faults += [f"{name} is not part of it" for name in sorted(found.keys() - own.keys())]
    if faults:
        raise CheckpointError(f"{path}: weights of another model: {faults[0]}")


def _place(value: Tensor) -> int:
    """Where the numbers of a tensor are; of one that is sharded, those of this process."""
    local = getattr(value, "to_local", None)
    return torch.Tensor.data_ptr(value if local is None else local())
