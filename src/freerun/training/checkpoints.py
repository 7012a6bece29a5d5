"""Read and write models of every kind, without executing or unpickling files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from freerun.data import Codec, DataError
from freerun.data.codec import CODEC_FILE
from freerun.digests import check_digests
from freerun.errors import CheckpointError
from freerun.files import check_json, read_json
from freerun.models import RecurrentConfig, RecurrentPolicy
from freerun.models.huggingface import HuggingFacePolicy, adapt
from freerun.models.huggingface.embeddings import adapter_save_options
from freerun.models.loading import check_finite, load_model, loading_errors, quiet_transformers
from freerun.models.settings import describe_difference
from freerun.policy import Policy
from freerun.tasks import load_codec

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTERS = "adapter_model.safetensors"


def check_weights(folder: Path) -> None:
    """Check that the safetensors of a model, in one file or several, exist and are complete.

    Raises:
        CheckpointError: if they are not. The message names the file.
    """
    files = [folder / WEIGHTS]
    if (folder / INDEX).exists():
        index: Any = read_json(folder / INDEX).get("weight_map")
        check_json(index, dict[str, str], f"{folder / INDEX}: weight_map")
        files = [folder / name for name in sorted(set(index.values()))]
    for path in files:
        _expect(path)
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: truncated or damaged ({error})") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors in a safetensors file.

    Raises:
        CheckpointError: if there is no such file, or it is damaged.
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


Weights = dict[str, Tensor]


def has_adapters(policy: Policy) -> bool:
    """Return whether only adapters are trained and saved, without their base model."""
    return isinstance(policy, HuggingFacePolicy) and hasattr(policy.model, "peft_config")


def save_weights(policy: Policy, folder: Path, state: Weights | None = None) -> None:
    """Save a policy as `save_pretrained` of its library does, as safetensors.

    Args:
        policy: the policy.
        folder: the folder, which is created.
        state: all weights, by their names in the policy, if the policy has only a shard of them.
    """
    saved: Any = policy  # `save_pretrained` is not a member of Policy, as not all are saved
    with quiet_transformers():
        if state is None:
            saved.save_pretrained(folder)
        elif isinstance(policy, HuggingFacePolicy):
            policy.save_pretrained(
                folder, state_dict={k.removeprefix("model."): v for k, v in state.items()}
            )
        else:
            saved.save_pretrained(folder, state_dict=state)


def read_weights(policy: Policy, folder: Path) -> Weights:
    """Read the weights of a policy from a folder, by their names in the policy.

    Raises:
        CheckpointError: if a file is missing or damaged, or its weights are of another model.
    """
    check_digests(folder)
    if isinstance(policy, HuggingFacePolicy) and has_adapters(policy):
        return _saved_adapters(policy, folder / ADAPTERS)
    if isinstance(policy, HuggingFacePolicy):
        check_weights(folder)
        # A file may contain old names of weights, which transformers converts.
        found = load_model(str(folder), dtype=policy.dtype).state_dict()
        state = {f"model.{name}": value for name, value in found.items()}
        _check_weights_match(state, policy.state_dict(), folder)
        return state
    state = read_tensors(folder / WEIGHTS)
    _check_weights_match(state, policy.state_dict(), folder / WEIGHTS)
    return state


def load_weights(module: nn.Module, path: Path) -> None:
    """Load all weights of a module from a safetensors file.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or its weights are those of
            another model. The message names the first that differs.
    """
    found = read_tensors(path)
    _check_weights_match(found, module.state_dict(), path)
    module.load_state_dict(found, strict=False)


def adapter_names(policy: HuggingFacePolicy) -> dict[str, str]:
    """Map the names of adapter weights in a file to their names in the policy.

    Raises:
        ValueError: if the file would contain other tensors than the model.
    """
    from peft import get_peft_model_state_dict

    state = policy.model.state_dict()
    names = {id(value): name for name, value in state.items()}
    found = get_peft_model_state_dict(
        policy.model, state_dict=state, **adapter_save_options(policy.model)
    )
    strange = [name for name, value in found.items() if id(value) not in names]
    if strange:
        raise ValueError(f"adapters of this kind cannot be saved: {strange[0]} is made when saved")
    return {name: f"model.{names[id(value)]}" for name, value in found.items()}


def _saved_adapters(policy: HuggingFacePolicy, path: Path) -> Weights:
    found, names, own = read_tensors(path), adapter_names(policy), policy.state_dict()
    _check_weights_match(found, {name: own[full] for name, full in names.items()}, path)
    return {names[name]: value for name, value in found.items()}


def _check_weights_match(found: Weights, own: Weights, path: Path) -> None:
    """Check that weights are those of a module.

    Raises:
        CheckpointError: if they are not. The message names the first that differs.
    """
    # A file contains tied weights once.
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
    check_finite(found, path)


def _place(value: Tensor) -> int:
    """Return the memory address of a tensor, or of this process's shard of it."""
    local = getattr(value, "to_local", None)
    return torch.Tensor.data_ptr(value if local is None else local())


def load_policy(directory: str | Path, codec: type[Codec] | None = None) -> tuple[Policy, Codec]:
    """Load the policy of a checkpoint or a finished run, and its codec.

    The base model of adapters is loaded from its path when they were trained.

    Args:
        directory: the folder.
        codec: the class of the codec; by default the one that codec.json names.

    Returns:
        The policy in evaluation mode, and its codec.

    Raises:
        CheckpointError: if a file is missing, damaged or of another kind of model; it is named.
        MissingExtraError: if it holds adapters, and peft is not installed.
    """
    model, found = load_saved_model(directory, codec)
    if isinstance(model, Policy):
        return model, found
    try:
        with torch.random.fork_rng(devices=[]):
            policy = adapt(
                model,
                found.target,
                limit=found.limit or 0,
                shared=found.shared,
                prefix=found.prefix,
            )
    except ValueError as error:
        raise CheckpointError(f"{directory}: {error}") from None
    return policy.eval(), found


def load_saved_model(
    directory: str | Path, codec: type[Codec] | None = None
) -> tuple[RecurrentPolicy | nn.Module, Codec]:
    """Load the same as `load_policy`, but return a Hugging Face model without wrapping it.

    Raises:
        CheckpointError: if a file is missing, damaged or of another kind of model; it is named.
        MissingExtraError: if it holds adapters, and peft is not installed.
    """
    folder = Path(directory)
    check_digests(folder)
    if not (folder / ADAPTER_CONFIG).exists():
        contents = read_json(folder / CONFIG)
        if contents.get("model_type") == RecurrentConfig.model_type:
            return _load_recurrent(folder, contents, codec)
    found = _load_codec(folder, codec)
    if found.limit is None:
        raise CheckpointError(
            f"{folder}: its outputs are not text, which this kind of model writes"
        )
    with torch.random.fork_rng(devices=[]):
        return load_model(str(folder), codec=found, dtype=_dtype(folder)), found


def _load_recurrent(
    folder: Path, contents: dict[str, Any], codec: type[Codec] | None
) -> tuple[RecurrentPolicy, Codec]:
    with loading_errors(str(folder / CONFIG)):
        config = RecurrentConfig.from_dict(contents)
        with torch.random.fork_rng(devices=[]):
            policy = RecurrentPolicy(config).to(config.dtype or torch.float32)
    load_weights(policy, folder / WEIGHTS)
    found = _load_codec(folder, codec)
    difference = describe_difference(config, found)
    if difference is not None:
        raise CheckpointError(f"{folder}: config.json and codec.json disagree: {difference}")
    return policy.eval(), found


def _load_codec(folder: Path, codec: type[Codec] | None) -> Codec:
    if not (folder / CODEC_FILE).exists():
        raise CheckpointError(
            f"{folder / CODEC_FILE}: there is no such file, so freerun did not train this model; "
            f"continue training it first: freerun train TASK --model {shlex.quote(str(folder))}"
        )
    try:
        return load_codec(str(folder)) if codec is None else codec.from_pretrained(str(folder))
    except DataError as error:
        raise CheckpointError(str(error)) from None


def _dtype(folder: Path) -> torch.dtype:
    """Return the dtype of saved weights; that of adapters does not determine the base model's."""
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
