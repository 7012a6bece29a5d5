"""What a Trainer is given, in the forms that users have it in, as what it works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from freerun.methods import METHODS
from freerun.methods.base import Method, check_method, suited
from freerun.policies.huggingface import HuggingFacePolicy, adapt
from freerun.policies.loading import load_model, load_tokenizer, unwarned
from freerun.policies.settings.base import disagreement
from freerun.policy import Policy
from freerun.settings import did_you_mean
from freerun.tasks.base import Codec, Examples, Task
from freerun.tasks.codec import FILE
from freerun.tasks.extras import extra
from freerun.trainer.checkpoints import load_policy
from freerun.trainer.outputs import Outputs
from freerun.trainer.weights import adapter_names

Model: TypeAlias = str | Path | nn.Module
Processing: TypeAlias = PreTrainedTokenizerBase | Codec
Rows: TypeAlias = Sequence[Mapping[str, Any]]


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
    policy, codec = _policy(model, processing)
    if peft_config is not None:
        policy = _with_adapters(policy, codec, peft_config, seed)
    task = task or Outputs()
    method = suited(_method(method), task)
    check_method(method, codec)
    rows = examples_of(train, codec, "train_dataset")
    return Given(
        policy,
        method,
        codec,
        rows,
        None if dev is None else examples_of(dev, codec, "eval_dataset"),
        task,
    )


def _method(method: Method | str) -> Method:
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}{did_you_mean(method, METHODS)}")
    return METHODS[method]()


def _policy(model: Model, processing: Processing | None) -> tuple[Any, Codec]:
    """The policy, and what it reads and writes."""
    if isinstance(model, str | Path):
        if Path(model, FILE).exists():
            return _trained(model, processing)
        path = str(model)
        processing = load_tokenizer(path) if processing is None else processing
        model = load_model(path)
    if isinstance(model, Policy):
        if not isinstance(processing, Codec):
            raise ValueError(
                "processing_class of a policy must be a codec: what it reads and writes"
            )
        return model, processing
    if not hasattr(model, "config"):
        raise ValueError(f"a {type(model).__name__} is neither a policy nor a Hugging Face model")
    if processing is None:
        raise ValueError("processing_class is missing: the tokenizer of the model, or a codec")
    codec = processing if isinstance(processing, Codec) else _codec(processing, model.config)
    if codec.limit is None:
        raise ValueError(
            f"outputs of the task {codec.task} are not text; they need a recurrent model"
        )
    return adapt(model, codec.target, limit=codec.limit, shared=codec.shared), codec


def _trained(folder: str | Path, processing: Processing | None) -> tuple[Any, Codec]:
    """A policy that freerun trained."""
    policy, codec = load_policy(folder)
    if isinstance(processing, Codec):
        difference = disagreement(codec, processing)
        if difference is not None:
            raise ValueError(f"{folder}: processing_class does not suit it: {difference}")
        codec = processing
    elif processing is not None:
        raise ValueError(f"{folder}: it has a codec of its own; leave processing_class out")
    return policy, codec


def _codec(tokenizer: PreTrainedTokenizerBase, config: Any) -> Codec:
    from freerun.tasks.tokenized import TextCodec

    start = config.decoder_start_token_id if config.is_encoder_decoder else None
    return TextCodec(tokenizer, start=start)


def _with_adapters(policy: Any, codec: Codec, peft_config: Any, seed: int) -> HuggingFacePolicy:
    """The policy with new adapters; all else is frozen."""
    peft = extra("peft", "lora", "peft_config")
    if not isinstance(policy, HuggingFacePolicy):
        raise ValueError("peft_config needs a Hugging Face model")
    if not isinstance(policy.model, PreTrainedModel):
        raise ValueError("the model has adapters already, which are trained; leave peft_config out")
    if not policy.inner.name_or_path:
        raise ValueError(
            "adapters are saved without the model that they belong to, which must be found again: "
            "save it first, and give its path or name as model"
        )
    with torch.random.fork_rng(devices=[]), unwarned():
        torch.manual_seed(seed)
        model = peft.get_peft_model(policy.model, peft_config)
    adapted = _adapt(model, codec)
    adapter_names(adapted)
    return adapted


def _adapt(model: nn.Module, codec: Codec) -> HuggingFacePolicy:
    if codec.limit is None or codec.features is not None or len(codec.factors) != 1:
        raise ValueError(f"the task {codec.task} is not text; it needs a recurrent model")
    return adapt(model, codec.target, limit=codec.limit, shared=codec.shared)


def examples_of(data: Any, codec: Codec, name: str) -> Examples:
    """Examples as they are, or made of rows."""
    if isinstance(data, list | tuple) or hasattr(data, "column_names"):
        from freerun.tasks.tokenized import TextCodec, TextExamples

        if not isinstance(codec, TextCodec):
            raise ValueError(f"{name} has rows of columns, which need a tokenizer to read them")
        if not hasattr(data, "__len__"):
            raise ValueError(f"{name} is a stream; a run must know its examples beforehand")
        return TextExamples.from_rows(data, codec)
    if not hasattr(type(data), "batch") or isinstance(data, Mapping):
        raise ValueError(
            f"{name} is a {type(data).__name__}; it must be a Dataset of the datasets library, a "
            "list of rows, or Examples"
        )
    examples: Examples = data
    return examples
