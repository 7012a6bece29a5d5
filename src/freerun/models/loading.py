"""Loading models that others trained: configuration, weights, adapters and tokenizers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file, logging
from transformers.utils.peft_utils import find_adapter_config_file

from freerun.data import Codec
from freerun.errors import CheckpointError
from freerun.imports import import_extra
from freerun.models.huggingface.embeddings import add_backspace_row, count_embeddings, shifts_tokens
from freerun.models.recurrent import RecurrentConfig

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
_NO_CODE: dict[str, Any] = {"trust_remote_code": False}


def load_config(path: str) -> PreTrainedConfig:
    """Load the configuration of the model at `path`; for adapters, of the model beneath them.

    Args:
        path: a directory, or an id on the Hugging Face hub.

    Raises:
        CheckpointError: if there is no model that can be loaded without running code of its own.
    """
    base, _ = find_base_path(path)
    file = Path(base, CONFIG)
    with loading_errors(base):
        if file.exists() and _model_type(file) == RecurrentConfig.model_type:
            return RecurrentConfig.from_pretrained(base)
        return AutoConfig.from_pretrained(base, **_NO_CODE)


def _model_type(file: Path) -> str | None:
    return json.loads(file.read_text(encoding="utf-8")).get("model_type")


def find_base_path(path: str) -> tuple[str, bool]:
    """Find the model itself, and whether there are only adapters of it at `path`.

    Raises:
        CheckpointError: if there is nothing, or adapters do not say what they belong to.
    """
    if Path(path).is_dir():
        own = Path(path, ADAPTER_CONFIG)
        found = own if own.exists() else None
        config = Path(path, CONFIG)
        if found is None and not config.exists():
            raise CheckpointError(f"{config}: there is no such file; is {path} a model?")
    elif Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise CheckpointError(f"{path}: there is no such directory")
    else:
        with loading_errors(path):
            # Adapters have no config.json; a second question is only asked where there is none.
            there = cached_file(path, CONFIG, _raise_exceptions_for_missing_entries=False)
            found = None if there else find_adapter_config_file(path)
    if found is None:
        return path, False
    base = json.loads(Path(found).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise CheckpointError(f"{found}: it does not say what model its adapters belong to")
    return base, True


def load_model(
    path: str,
    *,
    codec: Codec | None = None,
    trainable: bool = True,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> PreTrainedModel | nn.Module:
    """Load a causal model or an encoder-decoder; adapters as a PeftModel around it.

    Only safetensors are read, and all weights must be there.

    Args:
        path: a directory, or an id on the Hugging Face hub.
        codec: what it reads and writes, if that is known. Adapters may have been trained with a
            backspace that the model beneath lacks; it is given one, then.
        trainable: whether existing adapters are trained further.
        dtype: the dtype of the weights.
        changes: settings of its configuration to change.

    Raises:
        CheckpointError: if there is no such model, or it cannot be read.
        MissingExtraError: if it has adapters, and peft is not installed.
    """
    base, adapted = find_base_path(path)
    config = load_config(base)
    for name, value in changes.items():
        setattr(config, name, value)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        raise CheckpointError(
            f"{path}: {config.model_type} is neither a causal model nor an encoder-decoder of text"
        )
    with loading_errors(base):
        model, found = auto.from_pretrained(
            # Adapters keep where their model is, and may be read from another directory.
            str(Path(base).resolve()) if Path(base).is_dir() else base,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **_NO_CODE,
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise CheckpointError(f"{base}: weights are missing, such as {missing[0]}")
    if adapted:
        peft = import_extra("peft", "lora", f"{path}, which holds adapters,")
        with loading_errors(path), ignore_peft_warning():
            cached_file(path, "adapter_model.safetensors")  # else peft would read a pickled file
            if codec is not None:
                _complete(model, codec, peft.PeftConfig.from_pretrained(path))
            model = peft.PeftModel.from_pretrained(model, path, is_trainable=trainable)
    return model.eval()


def _complete(model: PreTrainedModel, codec: Codec, config: Any) -> None:
    """Give a model the backspace that its adapters were trained with, in the same way as then."""
    words, rows = codec.target, count_embeddings(model)
    if words.backspace is None:
        return
    if shifts_tokens(words, shared=codec.shared):
        lacking = rows < words.size + (0 if codec.shared else codec.factors[0])
    else:
        trained = getattr(config, "trainable_token_indices", None) or {}
        kept = trained.values() if isinstance(trained, dict) else [trained]
        lacking = rows <= words.backspace or any(words.backspace in tokens for tokens in kept)
    if lacking:
        add_backspace_row(model, words, shared=codec.shared)


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the model at `path`.

    Raises:
        CheckpointError: if it has none.
    """
    try:
        with loading_errors(path):
            found = AutoTokenizer.from_pretrained(path, **_NO_CODE)
        # Where there are no files, transformers may make one of the special tokens alone.
        if len(found) > len(found.all_special_ids):
            return found
        reason = "there is no tokenizer beside the model"
    except CheckpointError as error:
        reason = f"its tokenizer cannot be read ({error.__cause__})"
    base, adapted = find_base_path(path)
    if adapted:
        return load_tokenizer(base)
    raise CheckpointError(f"{path}: {reason}")


@contextmanager
def ignore_peft_warning() -> Iterator[None]:
    """Ignore the warning about an attribute that peft reads and transformers is about to remove."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is", FutureWarning)
        yield


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from showing progress bars and advice."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def loading_errors(path: str) -> Iterator[None]:
    """Keep transformers quiet, and name the model in the message of an error.

    Raises:
        CheckpointError: if it cannot be loaded.
    """
    try:
        with quiet_transformers():
            yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "trust_remote_code" in str(error):
            reason = "it comes with code of its own, which is never run"
        raise CheckpointError(f"{path}: {reason}") from error
