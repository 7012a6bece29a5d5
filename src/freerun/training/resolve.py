"""What a Trainer is given, in the forms that users have it in, as what it works with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from freerun.data import Codec, Data, DataError, Examples, Task
from freerun.data.codec import CODEC_FILE
from freerun.data.extras import extra
from freerun.data.text import TextCodec, TextExamples
from freerun.data.text.columns import kind_of
from freerun.data.text.examples import ENDLESS
from freerun.errors import CheckpointError
from freerun.methods import METHODS, Method
from freerun.models import RecurrentConfig
from freerun.models.adapters import training_rows
from freerun.models.backspace import extended, with_backspace
from freerun.models.huggingface import HuggingFacePolicy, adapt
from freerun.models.huggingface.embeddings import count_embeddings
from freerun.models.loading import load_model, load_tokenizer, unwarned
from freerun.models.settings import (
    SCRATCH,
    ModelSettings,
    PretrainedSettings,
    RecurrentSettings,
    agreeing,
    disagreement,
    settings_from,
)
from freerun.policy import Policy
from freerun.settings import did_you_mean
from freerun.training.checkpoints import CONFIG, adapter_names, load_policy, read_json
from freerun.training.free_run import Outputs
from freerun.training.record import RECORD_FILE, find_record

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
        if (folder / RECORD_FILE).exists() or (folder.parent / RECORD_FILE).exists():
            model = find_record(folder)[1].model
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
    codec = method.add_backspace(data.codec)
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


Model: TypeAlias = str | Path | nn.Module
Processing: TypeAlias = PreTrainedTokenizerBase | Codec

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """What a Trainer works with.

    Attributes:
        policy: a module that is a Policy.
        method: how it is trained.
        codec: what it reads and writes.
        train: what to train on.
        dev: what to evaluate on, if there is something.
        task: knows the metrics.
    """

    policy: Any
    method: Method
    codec: Codec
    train: Examples
    dev: Examples | None
    task: Task


def given(
    model: Model,
    method: Method | str,
    processing: Processing | None,
    train: Any,
    dev: Any,
    *,
    peft_config: Any = None,
    task: Task | None = None,
    seed: int = 0,
) -> Given:
    """Make of all that what a Trainer works with; see there.

    Args:
        model: a policy, a model, or where one is.
        method: a method, or its name.
        processing: what the policy reads and writes, or a tokenizer.
        train: examples, or rows of columns.
        dev: likewise, or None.
        peft_config: of adapters to train in place of all weights.
        task: knows the metrics.
        seed: of the weights of new adapters.

    Raises:
        ValueError: where something is missing, or does not suit the rest.
    """
    model, processing = _loaded(model, processing)
    codec = processing
    if isinstance(codec, PreTrainedTokenizerBase):
        codec = _codec(codec, model, {"train_dataset": train, "eval_dataset": dev})
    examples = examples_of(train, codec, "train_dataset")
    others = None if dev is None else examples_of(dev, codec, "eval_dataset")
    for name, part, of in (("train_dataset", examples, train), ("eval_dataset", others, dev)):
        for note in getattr(part, "notes", ()) if part is not of else ():  # whoever made it knows
            _LOGGER.warning("%s: %s", name, note)
    task = task or Outputs()
    method = _method(method).for_task(task)
    method.check(method.add_backspace(codec).target)
    codec, new = _with_backspace(model, codec, method)
    if new is not None:
        model = _extended(model, codec)
    if peft_config is not None:
        model = _with_adapters(model, peft_config, seed, new)
    policy = model if isinstance(model, Policy) else _adapted(model, codec)
    return Given(policy, method, codec, examples, others, task)


def examples_of(data: Any, codec: Codec, name: str) -> Examples:
    """Examples as they are, or made of rows.

    Args:
        data: the one or the other.
        codec: what is read and written.
        name: what to call them in messages.

    Raises:
        ValueError: where they are neither, or the codec does not read rows.
        DataError: where a row cannot be used.
    """
    if _are_rows(data, name):
        if not isinstance(codec, TextCodec):
            raise ValueError(f"{name} has rows of columns, which need a tokenizer to be read")
        return TextExamples.from_rows(data, codec, name)
    examples: Examples = data
    return examples


def _are_rows(data: Any, name: str) -> bool:
    """Whether data are rows of columns, and not examples.

    Raises:
        ValueError: where they are neither.
    """
    if isinstance(data, list | tuple):
        return True
    if hasattr(data, "column_names") and not isinstance(data, Mapping):
        if not hasattr(data, "__len__"):
            raise ValueError(f"{name} is a stream; a run must know its examples beforehand")
        return True
    if data is None or isinstance(data, Mapping) or not hasattr(type(data), "references"):
        raise ValueError(
            f"{name} is {'missing' if data is None else 'a ' + type(data).__name__}; it must be a "
            "Dataset of the datasets library, a list of rows, or Examples of a task"
        )
    return False


def _method(method: Method | str) -> Method:
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}{did_you_mean(method, METHODS)}")
    return METHODS[method]()


def _loaded(model: Model, processing: Processing | None) -> tuple[nn.Module, Processing]:
    """The model, and what it reads and writes or its tokenizer.

    Raises:
        ValueError: where that is missing, or is not that of the model.
    """
    if isinstance(model, str | Path):
        if Path(model, CODEC_FILE).exists():
            return _trained(model, processing)
        if processing is None:
            processing = load_tokenizer(str(model))
        model = load_model(str(model))
    if isinstance(model, Policy):
        if not isinstance(processing, Codec):
            raise ValueError("a policy needs as processing_class the codec that it was made for")
    elif not hasattr(model, "config"):
        raise ValueError(f"a {type(model).__name__} is neither a policy nor a Hugging Face model")
    if processing is None:
        raise ValueError("processing_class is missing: the tokenizer of the model, or a codec")
    return model, processing


def _trained(folder: str | Path, processing: Processing | None) -> tuple[nn.Module, Codec]:
    """A policy that freerun trained."""
    policy, codec = load_policy(folder)
    if isinstance(processing, PreTrainedTokenizerBase):
        known = codec.tokenizer.get_vocab() if isinstance(codec, TextCodec) else None
        if processing.get_vocab() != known:
            raise ValueError(
                f"{folder}: it was trained with other tokens; leave processing_class out"
            )
    elif processing is not None:
        processing = agreeing(processing, codec)
        difference = disagreement(agreeing(codec, processing), processing)
        if difference is not None:
            raise ValueError(f"{folder}: processing_class does not suit it: {difference}")
        if processing.target.backspace is not None:
            policy = with_backspace(policy, processing)
        codec = processing
    # Anew below, as its outputs may be longer now, or it gets adapters.
    return policy.model if isinstance(policy, HuggingFacePolicy) else policy, codec


def _codec(
    tokenizer: PreTrainedTokenizerBase, model: nn.Module, parts: Mapping[str, Any]
) -> TextCodec:
    """What is read and written by a tokenizer; outputs may be half as long again as the longest.

    Args:
        tokenizer: the tokenizer.
        model: the model.
        parts: the data by their names; the last may be None.

    Raises:
        DataError: where a row cannot be used.
        ValueError: where an encoder-decoder does not say what its decoder starts with.
    """
    config: Any = model.config
    start = config.decoder_start_token_id if config.is_encoder_decoder else None
    if config.is_encoder_decoder and start is None:
        raise ValueError("config.decoder_start_token_id of the model is missing")
    codec, longest = TextCodec(tokenizer, limit=ENDLESS, start=start), 1
    for name, part in parts.items():
        if name == "eval_dataset" and part is None:
            continue
        if _are_rows(part, name) and len(part):
            kind = kind_of(part[0], name)
            codec = replace(codec, column="prompt" if kind == "input_ids" else kind)
            part = TextExamples.from_rows(part, codec, name)
        if isinstance(part, TextExamples):
            longest = max(longest, part.longest[1])
        elif len(part):
            raise ValueError("Examples of a task come with a codec: give it as processing_class")
    return replace(codec, limit=longest + longest // 2)


def _with_backspace(model: nn.Module, codec: Codec, method: Method) -> tuple[Codec, int | None]:
    """What is read and written: with a backspace, where the method needs it or the model has it.

    Returns:
        The codec, and its backspace where the model has none yet.
    """
    if isinstance(model, Policy):
        there = model.vocabulary.backspace is not None
    else:
        beneath: Any = model
        beneath = beneath.get_base_model() if hasattr(model, "get_base_model") else model
        rows = codec.target.size + (0 if codec.shared else sum(codec.factors))
        there = codec.target.backspace is not None and count_embeddings(beneath) >= rows
    codec = codec.with_backspace() if there else method.add_backspace(codec)
    return codec, None if there else codec.target.backspace


def _extended(model: nn.Module, codec: Codec) -> nn.Module:
    """The model with the backspace of a codec."""
    if isinstance(model, Policy):
        return with_backspace(model, codec)
    found: nn.Module = extended(model, codec.target, shared=codec.shared)
    return found


def _with_adapters(model: nn.Module, peft_config: Any, seed: int, new: int | None) -> nn.Module:
    """The model with new adapters; all else is frozen but for the rows of a new token."""
    peft = extra("peft", "lora", "peft_config")
    if hasattr(model, "peft_config") and not isinstance(model, PreTrainedModel):
        raise ValueError("the model has adapters already, which are trained; leave peft_config out")
    if isinstance(model, Policy):
        raise ValueError("peft_config needs a Hugging Face model, not a policy")
    if not getattr(model, "name_or_path", ""):
        raise ValueError(
            "adapters are saved without the model that they belong to, which must be found again: "
            "save it first, and give its path or name as model"
        )
    if not isinstance(peft_config, peft.PeftConfig):
        kind = type(peft_config).__name__
        raise ValueError(f"peft_config is a {kind}; it must be a configuration of peft")
    if new is not None:
        peft_config = training_rows(peft_config, model, new)
    with torch.random.fork_rng(devices=[]), unwarned():
        torch.manual_seed(seed)
        found: nn.Module = peft.get_peft_model(model, peft_config)
    return found


def _adapted(model: nn.Module, codec: Codec) -> HuggingFacePolicy:
    """The policy that a model is; what is saved of adapters must be theirs."""
    if codec.limit is None or codec.features is not None or len(codec.factors) != 1:
        raise ValueError(f"the task {codec.task} is not text; it needs a recurrent model")
    policy = adapt(model, codec.target, limit=codec.limit, shared=codec.shared)
    if hasattr(model, "peft_config") and not isinstance(model, PreTrainedModel):
        adapter_names(policy)
    return policy
