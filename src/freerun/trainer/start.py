"""The model that training starts from: new, or of a checkpoint."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from freerun.errors import CheckpointError
from freerun.methods.base import Method, codec_for
from freerun.policies import RecurrentConfig
from freerun.policies.backspace import with_backspace
from freerun.policies.settings import (
    SCRATCH,
    ModelSettings,
    PretrainedSettings,
    RecurrentSettings,
    agreeing,
    disagreement,
    settings_from,
)
from freerun.tasks.base import Codec, Data, DataError
from freerun.trainer.checkpoints import CONFIG, load_policy, read_json
from freerun.trainer.record import FILE, recorded

ADAPTERS = "adapter_config.json"


def settings_at(directory: str | Path) -> ModelSettings:
    """The settings of the model in a folder; of one that was not trained from scratch, where it is.

    Args:
        directory: the folder of a finished run, or of a checkpoint in a run.

    Raises:
        CheckpointError: where there is none, or it cannot be read.
    """
    folder = Path(directory)
    pretrained = PretrainedSettings(path=str(directory))
    if (folder / ADAPTERS).exists():
        return pretrained
    contents = read_json(folder / CONFIG)
    try:
        if contents.get("model_type") == RecurrentConfig.model_type:
            return RecurrentSettings.of(RecurrentConfig.from_dict(contents))
        if (folder / FILE).exists() or (folder.parent / FILE).exists():
            model = recorded(folder)[1].get("model", {})
            return settings_from(model) if model.get("kind") in SCRATCH else pretrained
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    return pretrained


def data_for(data: Data, method: Method, model: ModelSettings, init: Path | None = None) -> Data:
    """The data, with what a policy reads and writes that a method trains from here.

    That has a backspace where the method needs one, or the model has one already.

    Args:
        data: the data of the task.
        method: the method.
        model: what the policy is made of.
        init: a checkpoint to start from, if there is one.

    Raises:
        ValueError: where the method needs a backspace, and outputs can have none.
    """
    codec = codec_for(method, data.codec)
    if init is None and isinstance(model, PretrainedSettings) and model.own:
        init = Path(model.path)
    if init is not None and codec.target.backspace is None:
        with suppress(DataError):  # what is wrong there, `start` says
            codec = agreeing(codec, type(codec).from_pretrained(str(init)))
    return replace(data, codec=codec)


def start(codec: Codec, model: ModelSettings, seed: int, init: Path | None) -> nn.Module:
    """The policy that training starts from: weights that are drawn are drawn by `seed`.

    Args:
        codec: what it reads and writes.
        model: what it is made of.
        seed: of the weights.
        init: a checkpoint to take them from; then only dropout may differ from it, and a backspace
            be new.

    Raises:
        CheckpointError: where `init` cannot be read, is another model, or does not suit the task.
        ValueError: where a setting does not suit the task.
    """
    if init is not None:
        _check(model, settings_at(init), init)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Anew where there is a checkpoint, too, as dropout and the longest output may differ.
        fresh = model.build(codec)
    if init is None or isinstance(model, PretrainedSettings):
        return fresh
    policy, found = load_policy(init, type(codec))
    difference = disagreement(agreeing(found, codec), codec)
    if difference is not None:
        raise CheckpointError(f"{init}: it does not suit the task: {difference}")
    if codec.target.backspace is not None:
        policy = with_backspace(policy, codec)
    fresh.load_state_dict(policy.state_dict())
    return fresh


def _check(model: ModelSettings, found: ModelSettings, init: Path) -> None:
    """See that a checkpoint is of the model that is asked for."""
    if model.kind != found.kind:
        raise CheckpointError(f"{init}: it is a {found.kind} model, not a {model.kind} one")
    if isinstance(model, PretrainedSettings):
        if model.path != str(init):
            raise CheckpointError(
                f"{init} and {model.path} are both named as the model to start from; name one"
            )
        return
    for name, there in vars(found).items():
        here = getattr(model, name)
        if here != there and name != "dropout":
            raise CheckpointError(
                f"{init}: {name} of the model is {there}, but {here} is asked for; "
                "only dropout may differ"
            )
