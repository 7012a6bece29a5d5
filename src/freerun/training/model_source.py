"""Where the model of a run comes from: settings, a path or id, or an object.

Tokenizers are loaded and data are read here; the policy is built later, when it is known whether it
needs a backspace (see `freerun.training.resolve`).
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from freerun.data import Codec, Data, Examples, MediaCodec, TextCodec, TextExamples
from freerun.data.codec import CODEC_FILE
from freerun.digests import check_digests
from freerun.errors import CheckpointError
from freerun.files import read_json
from freerun.imports import import_extra
from freerun.models import RecurrentConfig
from freerun.models.adapters import add_adapters, find_base_model
from freerun.models.backspace import extend_model, with_backspace
from freerun.models.huggingface import HuggingFacePolicy, adapt
from freerun.models.huggingface.embeddings import count_embeddings
from freerun.models.loading import (
    convert_weights,
    draw_in_float32,
    load_model,
    load_pretrained_tokenizer,
    loading_errors,
)
from freerun.models.settings import (
    SCRATCH,
    ModelSettings,
    PretrainedSettings,
    RecurrentSettings,
    build_from_record,
    describe_difference,
    match_backspace,
)
from freerun.policy import Policy
from freerun.training.checkpoints import (
    ADAPTER_CONFIG,
    CONFIG,
    adapter_names,
    load_saved_model,
    read_weights,
)
from freerun.training.datasets import Datasets, Processing, make_codec, make_examples
from freerun.training.loading import read_codec
from freerun.training.record import RECORD_FILE, find_record

Model: TypeAlias = str | Path | nn.Module

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSource:
    """The source of a policy, before it is decided whether the policy needs a backspace.

    Attributes:
        codec: the codec of the model.
        has_backspace: whether the model already has a backspace.
        build: builds the policy for a codec, which is `codec`, or `codec` with a backspace.
        train: the examples to train on.
        dev: the examples to evaluate on, if there are any.
        examples: all examples, by the names used in messages.
    """

    codec: Codec
    has_backspace: bool
    build: Callable[[Codec], Policy]
    train: Examples
    dev: Examples | None
    examples: Mapping[str, Examples]


# ---- Models given by settings


def read_model_settings(directory: str | Path) -> ModelSettings:
    """Read the settings of the model in a folder, or the path of a pretrained model.

    Args:
        directory: the folder of a finished run, or of a checkpoint in a run.

    Raises:
        CheckpointError: if there is none, or it cannot be read.
    """
    folder = Path(directory)
    pretrained = PretrainedSettings(path=str(directory))
    check_digests(folder)
    if (folder / ADAPTER_CONFIG).exists():
        return pretrained
    contents = read_json(folder / CONFIG)
    if contents.get("model_type") == RecurrentConfig.model_type:
        with loading_errors(str(folder / CONFIG)):
            return RecurrentSettings.from_config(RecurrentConfig.from_dict(contents))
    if (folder / RECORD_FILE).exists() or (folder.parent / RECORD_FILE).exists():
        path, record = find_record(folder)
        if record.model["kind"] in SCRATCH:
            with loading_errors(str(path)):
                return build_from_record(record.model)
    return pretrained


def plan_from_settings(
    model: ModelSettings, data: Data, init: Path | None, seed: int
) -> ModelSource:
    """Plan to build a policy from settings, with random weights, or those of `init`.

    Raises:
        CheckpointError: if `init` cannot be read or contains a different model.
    """
    codec, known = data.codec, None
    if init is not None:
        _check_same_model(model, read_model_settings(init), init)
    saved = init
    if isinstance(model, PretrainedSettings):
        saved = Path(model.path) if model.trained_by_freerun else None
    if saved is not None:
        known = read_codec(saved, type(codec))
        wanted = match_backspace(codec, known)
        found = match_backspace(known, codec)
        difference = describe_difference(found, wanted)
        if difference is not None and init is not None and _differ_in_tokens(found, wanted):
            raise CheckpointError(
                f"{init}: its tokens are not those of the data ({difference}); to read the data by "
                f"the tokens of this model, give --model {shlex.quote(str(init))} in place of "
                f"--init (in Python, model=PretrainedSettings(path={str(init)!r}))"
            )
        if difference is not None:
            raise CheckpointError(f"{saved}: it does not match the task: {difference}")

    def build(chosen: Codec) -> Policy:
        if init is not None and not isinstance(model, PretrainedSettings):
            return _build_from_checkpoint(model, init, codec, chosen, seed)
        with torch.random.fork_rng(devices=[]), draw_in_float32():
            torch.manual_seed(seed)
            return model.build(chosen)

    has_backspace = (known or codec).target.backspace is not None
    examples = {"train": data.train, "dev": data.dev, "test": data.test}
    return ModelSource(codec, has_backspace, build, data.train, data.dev, examples)


def _differ_in_tokens(own: Codec, wanted: Codec) -> bool:
    """Return whether two different codecs have the same form of sources and of outputs."""
    forms = [
        (codec.features, codec.target.eos is None, codec.target.backspace is None)
        for codec in (own, wanted)
    ]
    return forms[0] == forms[1]


def _check_same_model(model: ModelSettings, found: ModelSettings, init: Path) -> None:
    """Check that a checkpoint contains the requested model."""
    if model.kind != found.kind:
        raise CheckpointError(f"{init}: it is a {found.kind} model, not a {model.kind} one")
    if isinstance(model, PretrainedSettings):
        if model.path != str(init):
            raise CheckpointError(
                f"{init} and {model.path} are both given as the model to start from; give one"
            )
        return
    for name, there in vars(found).items():
        here = getattr(model, name)
        if here != there and name != "dropout":
            raise CheckpointError(
                f"{init}: {name} of the model is {there}, but {here} is requested; "
                "only dropout may differ"
            )


def _build_from_checkpoint(
    model: ModelSettings, init: Path, codec: Codec, chosen: Codec, seed: int
) -> Policy:
    """Build a policy with the weights of a checkpoint; a missing backspace is added afterwards."""
    known = read_codec(init, type(codec))
    lacking = known.target.backspace is None and chosen.target.backspace is not None
    with torch.random.fork_rng(devices=[]), draw_in_float32():
        torch.manual_seed(seed)
        # Built again, because dropout and the limit may differ from those of the checkpoint.
        policy = model.build(codec if lacking else chosen)
    policy.load_state_dict(read_weights(policy, init), strict=False)
    return with_backspace(policy, chosen) if lacking else policy


# ---- Models given by path or object


def plan_from_model(
    model: Model, data: Datasets, peft_config: object, dtype: torch.dtype, seed: int
) -> ModelSource:
    """Plan to build a policy from a model, and read the data by its tokenizer or codec."""
    model, processing = _load(model, data.processing)
    converted = convert_weights(model, dtype)
    if converted:
        names = ", ".join(sorted(str(each).removeprefix("torch.") for each in converted))
        wanted = str(dtype).removeprefix("torch.")
        _LOGGER.warning(
            "the weights of the model were converted from %s to %s, in which they are trained and "
            "saved (see dtype)",
            names,
            wanted,
        )
    codec = processing
    if isinstance(codec, PreTrainedTokenizerBase):
        codec = make_codec(codec, model, data.parts)
    examples = {
        name: make_examples(part, codec, name)
        for name, part in data.parts.items()
        if part is not None or name == "train_dataset"
    }
    for name, part in examples.items():
        # Notes of given examples were shown before.
        if isinstance(part, TextExamples) and part is not data.parts[name]:
            for note in part.notes:
                _LOGGER.warning("%s: %s", name, note)
    has_backspace = _has_backspace(model, codec)

    def build(chosen: Codec) -> Policy:
        new = None if has_backspace else chosen.target.backspace
        found = model
        if new is not None:
            found = _add_backspace_rows(found, chosen)
        if peft_config is not None:
            found = _add_adapters(found, peft_config, seed, new)
        return found if isinstance(found, Policy) else make_policy(found, chosen)

    train, dev = examples["train_dataset"], examples.get("eval_dataset")
    return ModelSource(codec, has_backspace, build, train, dev, examples)


def _load(model: Model, processing: Processing | None) -> tuple[nn.Module, Processing]:
    """Load the model, if it is given by a path or id, and its tokenizer or codec.

    Raises:
        ValueError: if the tokenizer or codec is missing, or is not that of the model.
    """
    if isinstance(model, str | Path):
        if Path(model, CODEC_FILE).exists():
            return _load_trained(model, processing)
        if processing is None:
            processing = load_pretrained_tokenizer(str(model))
        model = load_model(str(model))
    if isinstance(model, Policy):
        if not isinstance(processing, Codec):
            raise ValueError("a policy needs as processing_class the codec that it was made for")
    elif not hasattr(model, "config"):
        raise ValueError(f"a {type(model).__name__} is neither a policy nor a Hugging Face model")
    if processing is None:
        raise ValueError("processing_class is missing: the tokenizer of the model, or a codec")
    return model, processing


def _load_trained(folder: str | Path, processing: Processing | None) -> tuple[nn.Module, Codec]:
    """Load a model that freerun trained; a given codec may differ only in its limit."""
    model, codec = load_saved_model(folder)
    if isinstance(processing, PreTrainedTokenizerBase):
        known = codec.tokenizer.get_vocab() if isinstance(codec, TextCodec) else None
        if processing.get_vocab() != known:
            raise ValueError(
                f"{folder}: it was trained with other tokens; leave processing_class out"
            )
    elif processing is not None:
        processing = match_backspace(processing, codec)
        difference = describe_difference(match_backspace(codec, processing), processing)
        if difference is not None:
            raise ValueError(f"{folder}: processing_class does not match it: {difference}")
        codec = processing
    return model, codec


def _has_backspace(model: nn.Module, codec: Codec) -> bool:
    """Return whether a model has a row for the backspace that is not merely a spare row."""
    if isinstance(model, Policy):
        return model.vocabulary.backspace is not None
    rows = codec.target.size + (0 if codec.shared else sum(codec.factors))
    return codec.target.backspace is not None and count_embeddings(find_base_model(model)) >= rows


def _add_backspace_rows(model: nn.Module, codec: Codec) -> nn.Module:
    """Add rows for the backspace of a codec to a model."""
    if isinstance(model, Policy):
        return with_backspace(model, codec)
    found: nn.Module = extend_model(model, codec.target, shared=codec.shared)
    return found


def _add_adapters(model: nn.Module, peft_config: object, seed: int, new: int | None) -> nn.Module:
    """Add new adapters to a model; all other weights except the rows of a new token are frozen."""
    peft = import_extra("peft", "lora", "peft_config")
    if hasattr(model, "peft_config") and not isinstance(model, PreTrainedModel):
        raise ValueError("the model has adapters already, which are trained; leave peft_config out")
    if isinstance(model, Policy):
        raise ValueError("peft_config needs a Hugging Face model, not a policy")
    if not getattr(model, "name_or_path", ""):
        raise ValueError(
            "adapters are saved without their base model, which must be found again: save it "
            "first, and pass its path or name as model"
        )
    if not isinstance(peft_config, peft.PeftConfig):
        kind = type(peft_config).__name__
        raise ValueError(f"peft_config is a {kind}; it must be a configuration of peft")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return add_adapters(model, peft_config, new)


def make_policy(model: nn.Module, codec: Codec) -> HuggingFacePolicy:
    """Wrap a model as a policy, and check that the saved weights of adapters are complete."""
    is_text = codec.features is None and len(codec.factors) == 1
    if codec.limit is None or not (is_text or isinstance(codec, MediaCodec)):
        raise ValueError(
            "the data are not text, which a Hugging Face model needs; use a recurrent one"
        )
    policy = adapt(model, codec.target, limit=codec.limit, shared=codec.shared, prefix=codec.prefix)
    if hasattr(model, "peft_config") and not isinstance(model, PreTrainedModel):
        adapter_names(policy)
    return policy
