"""Resolve the names and settings of a user to the objects of a run.

Only here and in `freerun.training.model_source` are names converted to objects, tokenizers loaded
and adapters added. Here it is decided whether there is a backspace, and checked that all fits
together. The model is built and probed only once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from freerun.data import Codec, Data, DataError, Examples, TextCodec
from freerun.errors import CheckpointError
from freerun.evaluation import GREEDY, check_decoding
from freerun.methods import Method, find_method
from freerun.methods.samples import try_cost
from freerun.metrics import check_metrics, try_metrics
from freerun.models.huggingface import HuggingFacePolicy
from freerun.models.huggingface.generation import find_replaced_settings
from freerun.models.settings import ModelSettings
from freerun.policy import Policy
from freerun.settings import SettingError, build
from freerun.tasks import Task, load_data
from freerun.training.checks import check_lengths
from freerun.training.datasets import Datasets, GenericTask
from freerun.training.loading import load_matching
from freerun.training.model_source import Model, ModelSource, plan_from_model, plan_from_settings

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """The objects of a run.

    Attributes:
        policy: the policy, on the CPU.
        codec: the codec of the policy.
        method: the method, with the settings that depend on the task filled in.
        task: the task, which defines the metrics.
        train: the examples to train on.
        dev: the examples to evaluate on during training, if there are any.
    """

    policy: Policy
    codec: Codec
    method: Method
    task: Task
    train: Examples
    dev: Examples | None


def resolve(
    model: ModelSettings | Model,
    data: Task | Data | Datasets,
    method: Method | str,
    *,
    task: Task | None = None,
    init: Path | None = None,
    peft_config: object = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Run:
    """Build the objects of a run from names and settings, and check that they are compatible.

    Args:
        model: the settings of a model; or a Hugging Face model, its directory or its id on the hub;
            or a policy, or the directory of one.
        data: a task, whose data are then read; its data; or data without a task, which require a
            model that is not given by settings.
        method: a method, or its name.
        task: the task of the data; by default outputs are compared with references as text.
        init: a checkpoint to initialize the weights from, for a model given by settings, which may
            differ from it only in dropout and by a new backspace.
        peft_config: a configuration of peft, for a model that is not given by settings: adapters
            are trained instead of all weights.
        dtype: the dtype of the weights of a model that is not given by settings; quantized ones do
            not change.
        seed: the seed of randomly initialized weights.

    Raises:
        SettingError: if a name is unknown, or model, method and data are incompatible.
        DataError: if rows cannot be used.
        CheckpointError: if a model cannot be read, or is not the requested one.
        MissingExtraError: if a library that they need is missing.
    """
    with as_setting_errors():
        if isinstance(data, Task):
            task = data
            data = model.load(data) if isinstance(model, ModelSettings) else load_data(data)
        task = task or GenericTask()
        if isinstance(method, str):
            method = build(find_method(method), {}, f"method {method!r}")
        method = method.for_task(task)
        if isinstance(model, ModelSettings):
            if not isinstance(data, Data):
                raise ValueError("a model that is given by settings needs a task or its data")
            source = plan_from_settings(model, data, init, seed)
        else:
            if isinstance(data, Data):
                data = Datasets(data.train, data.dev, data.codec)
            source = plan_from_model(model, data, peft_config, dtype, seed)
        if len(source.train) == 0:
            raise ValueError("there are no examples to train on")
        if source.dev is not None and len(source.dev) == 0:
            raise ValueError("there are no examples to evaluate on")
        codec = choose_codec(method, source)

        method = prepare_method(method, codec, source.train)
        check_metrics(task.get_metrics(), codec)
        tried = source.train if source.dev is None else source.dev
        try_metrics(task.get_metrics(), codec, tried)
        policy = source.build(codec)
        method = method.for_model(at_once=isinstance(policy, HuggingFacePolicy))
        run = Run(policy, codec, method, task, source.train, source.dev)
        for name, examples in source.examples.items():
            more = method.extra_positions if examples is run.train else 0
            check_lengths(run.policy, examples, name, more)
        if isinstance(run.policy, HuggingFacePolicy):
            _warn_of_generation_config(run.policy)
            if isinstance(codec, TextCodec) and codec.prompt_note:
                _LOGGER.warning("%s", codec.prompt_note)
        if codec.target.backspace is not None:
            check_decoding(run.policy, run.train, GREEDY)  # all decoding with backspaces needs this
        return run


def prepare_method(method: Method, codec: Codec, train: Examples) -> Method:
    """Return a method with what it needs of texts and of other models, and check it.

    Args:
        method: a method with the settings that come from the task.
        codec: the codec of the model.
        train: the examples to train on, which a teacher must have positions for.

    Raises:
        ValueError: if the method does not fit the codec.
        CheckpointError: if a model cannot be read, or has other tokens.
    """

    def load(folder: str) -> Policy:
        teacher = load_matching(folder, codec)
        check_lengths(teacher, train, f"{folder}: train")
        return teacher

    method = method.for_codec(codec).with_loader(load)
    method.check(codec.target)
    cost = getattr(method, "cost", None)
    if cost is not None:  # now, and not when the warm-up ends
        few = train.batch(range(min(2, len(train))))
        try_cost(cost, codec.target, few, type(method).__name__)
    return method


def _warn_of_generation_config(policy: HuggingFacePolicy) -> None:
    """Warn that settings of the model's generation config are not used, if there are any."""
    unused = find_replaced_settings(policy.inner, policy.generation_settings)
    if unused:
        names = ", ".join(f"{name}={value!r:.60}" for name, value in unused.items())
        # Names come from a file: half of a surrogate pair, which streams cannot encode, is escaped.
        names = names.encode("utf-8", "backslashreplace").decode("utf-8")
        _LOGGER.warning(
            "the generation config of the model is not used (%s): outputs are decoded greedily, or "
            "as the decoding settings say, and the generation_config.json that is saved describes "
            "greedy decoding",
            names,
        )


def choose_codec(method: Method, source: ModelSource) -> Codec:
    """Return the codec, with a backspace if the method needs it or the model already has it.

    Raises:
        ValueError: if the method needs a backspace, and outputs have no eos.
    """
    codec = source.codec
    return codec.with_backspace() if source.has_backspace else method.add_backspace(codec)


@contextmanager
def as_setting_errors() -> Iterator[None]:
    """Convert errors in a user's settings to a `SettingError`, which is reported in one line."""
    try:
        yield
    except (DataError, CheckpointError, SettingError):
        raise
    except ValueError as error:
        raise SettingError(str(error)) from error
