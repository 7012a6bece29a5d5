"""Loading models that others trained: configuration, weights, adapters and tokenizers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file, logging
from transformers.utils.peft_utils import find_adapter_config_file

from freerun.data import Codec
from freerun.data.media import Media
from freerun.digests import check_digests
from freerun.errors import CheckpointError
from freerun.files import read_json
from freerun.hub import can_reach_hub, use_cache_only
from freerun.imports import MissingExtraError, import_extra
from freerun.models.huggingface.dropout import set_dropout, set_module_dropout
from freerun.models.huggingface.embeddings import add_backspace_row, count_embeddings, shifts_tokens
from freerun.models.recurrent import RecurrentConfig

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
GENERATION_CONFIG = "generation_config.json"
_ENCODER_DECODERS = (
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoModelForImageTextToText,
)
_NO_CODE: dict[str, Any] = {"trust_remote_code": False}
_ATTENTIONS = ("eager", "sdpa", "flex_attention")
_GGUF = (
    "{}: a GGUF file has quantized weights, which cannot be trained; use the model that it was "
    "made from, as a folder with config.json and safetensors"
)


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
        if file.exists() and read_json(file).get("model_type") == RecurrentConfig.model_type:
            return RecurrentConfig.from_pretrained(base)
        config = AutoConfig.from_pretrained(base, **_NO_CODE)
    _check_config(config, base)
    return config


def _check_config(config: PreTrainedConfig, path: str) -> None:
    """Check that a configuration, or one in it, names nothing that would be fetched and run.

    Raises:
        CheckpointError: if it does, or if the weights are quantized.
    """
    for part in (config, *vars(config).values()):
        if not isinstance(part, PreTrainedConfig):
            continue
        # Whatever else it names may be a kernel on the hub, which is a program.
        attention = part._attn_implementation
        if attention not in (None, *_ATTENTIONS):
            raise CheckpointError(
                f"{path}: its configuration names the attention {attention!r}, which is not "
                f"loaded; it must be one of {', '.join(_ATTENTIONS)}"
            )
        if getattr(part, "quantization_config", None) is not None:
            raise CheckpointError(
                f"{path}: its weights are quantized; load it with transformers, and pass the "
                "model to Trainer, with adapters"
            )


def _check_folder(path: str) -> None:
    """Check that the files of a model are files in its folder.

    Links are followed: the cache of the hub consists of them.

    Raises:
        CheckpointError: if one is a pipe or the like, an index names a file elsewhere, or
            generation_config.json is not JSON.
    """
    for file in sorted(Path(path).iterdir()):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise CheckpointError(f"{file}: it is not a regular file")
        if file.name == "generation_config.json":
            read_json(file)  # transformers ignores it if it is damaged
        if not file.name.endswith(".safetensors.index.json"):
            continue
        names = read_json(file).get("weight_map")
        if not isinstance(names, dict):
            raise CheckpointError(f"{file}: the field 'weight_map' must be an object")
        for name in names.values():
            if not isinstance(name, str) or Path(name).name != name or name == "..":
                raise CheckpointError(
                    f"{file}: it names {name!r}, which is not a file in the same folder"
                )


def find_base_path(path: str) -> tuple[str, bool]:
    """Find the model itself, and whether there are only adapters of it at `path`.

    Raises:
        CheckpointError: if there is nothing, or adapters do not say what they belong to.
    """
    if Path(path).is_dir():
        check_digests(path)
        own = Path(path, ADAPTER_CONFIG)
        found = own if own.exists() else None
        config = Path(path, CONFIG)
        if found is None and not config.exists():
            for file in sorted(Path(path).glob("*.gguf")):
                raise CheckpointError(_GGUF.format(file))
            raise CheckpointError(f"{config}: there is no such file; is {path} a model?")
    elif Path(path).is_file() and path.endswith(".gguf"):
        raise CheckpointError(_GGUF.format(path))
    elif Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise CheckpointError(f"{path}: there is no such directory")
    else:
        with loading_errors(path):
            # Adapters have no config.json; a second question is only asked where there is none.
            there = cached_file(path, CONFIG, _raise_exceptions_for_missing_entries=False)
            found = None if there else find_adapter_config_file(path)
    if found is None:
        return path, False
    contents = read_json(Path(found))
    base = contents.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(
            f"{found}: the field 'base_model_name_or_path' must name the model that the adapters "
            "belong to"
        )
    if Path(base, ADAPTER_CONFIG).exists():
        raise CheckpointError(f"{found}: {base}, the model of the adapters, has only adapters, too")
    revision = contents.get("revision")
    if revision not in (None, "main") and not Path(base).is_dir():
        raise CheckpointError(
            f"{found}: the adapters belong to the revision {revision!r} of {base}, and only its "
            "newest one is loaded; download that revision, and let base_model_name_or_path be its "
            "folder"
        )
    if contents.get("megatron_config") is not None:
        raise CheckpointError(f"{found}: it names a module to import, which is never done")
    return base, True


def find_media_kind(path: str) -> Media | None:
    """Return what the encoder of a model reads, image or audio; None for text and causal models."""
    config = load_config(path)
    kinds: tuple[Media | None, ...] = (None, "audio", "image")
    found = zip(kinds, _ENCODER_DECODERS, strict=True)
    return next((kind for kind, auto in found if type(config) in auto._model_mapping), None)


def load_model(
    path: str,
    *,
    codec: Codec | None = None,
    dtype: torch.dtype = torch.float32,
    dropout: float | None = None,
) -> PreTrainedModel | nn.Module:
    """Load a causal model or an encoder-decoder; adapters as a PeftModel around it.

    Only safetensors are read, and all weights must be there.

    Args:
        path: a directory, or an id on the Hugging Face hub.
        codec: what it reads and writes, if that is known. Adapters may have been trained with a
            backspace that the model beneath lacks; it is given one, then.
        dtype: the dtype of the weights.
        dropout: the probability of dropout, everywhere; by default that of its configuration.

    Raises:
        CheckpointError: if there is no such model, or it cannot be read.
        MissingExtraError: if it has adapters, and peft is not installed.
    """
    base, adapted = find_base_path(path)
    config = load_config(base)
    for folder in {path, base}:
        if Path(folder).is_dir():
            _check_folder(folder)
    if dropout is not None:
        set_dropout(config, dropout)
    autos = _ENCODER_DECODERS if config.is_encoder_decoder else (AutoModelForCausalLM,)
    auto = next((each for each in autos if type(config) in each._model_mapping), None)
    if auto is None:
        raise CheckpointError(
            f"{path}: {config.model_type} is neither a causal model nor an encoder-decoder that "
            "writes text"
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
    if dropout is not None:
        set_module_dropout(model, dropout)
    missing = sorted(found["missing_keys"])
    if missing and all(name.startswith("encoder.pooler.") for name in missing):
        model.encoder.pooler = None  # as in TrOCR's files; no decoder reads it
    elif missing:
        raise CheckpointError(f"{base}: weights are missing, such as {missing[0]}")
    check_finite(dict(model.named_parameters()), base)
    if adapted:
        peft = import_extra("peft", "lora", f"{path}, which holds adapters,")
        with loading_errors(path), ignore_peft_warning():
            cached_file(path, "adapter_model.safetensors")  # else peft would read a pickled file
            if codec is not None:
                _complete(model, codec, peft.PeftConfig.from_pretrained(path))
            model = peft.PeftModel.from_pretrained(model, path, is_trainable=True)
    return model.eval()


def check_finite(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that weights are numbers.

    Raises:
        CheckpointError: if one is infinite or not a number; the first is named.
    """
    for name, value in weights.items():
        # The bounds take one pass; NaN is a bound of what contains it.
        bounds = value.detach().aminmax() if value.is_floating_point() and value.numel() else ()
        if not all(math.isfinite(bound) for bound in bounds):
            raise CheckpointError(f"{path}: {name} has values that are infinite or not numbers")


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


def find_start(config: PreTrainedConfig, path: str) -> int | None:
    """Find the token that the decoder of an encoder-decoder starts with.

    Models that are composed of two have it in the configuration of the decoder or of generation.
    """
    found = getattr(config, "decoder_start_token_id", None)
    if found is None:
        found = getattr(getattr(config, "decoder", None), "decoder_start_token_id", None)
    base, _ = find_base_path(path)
    file = Path(base, GENERATION_CONFIG)
    if found is None and file.is_file():
        found = read_json(file).get("decoder_start_token_id")
    return found if isinstance(found, int) else None


def load_pretrained_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the model at `path`.

    Raises:
        CheckpointError: if it has none.
    """
    if Path(path).is_dir():
        check_digests(path)
    try:
        with loading_errors(path):
            found = AutoTokenizer.from_pretrained(path, **_NO_CODE)
        # Where there are no files, transformers may make one of the special tokens alone.
        if len(found) > len(found.all_special_ids):
            return found
        reason = "there is no tokenizer beside the model"
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{path}: ")
        reason = f"its tokenizer cannot be read ({reason})"
    base, adapted = find_base_path(path)
    if adapted:
        return load_pretrained_tokenizer(base)
    raise CheckpointError(f"{path}: {reason}")


def convert_weights(model: nn.Module, dtype: torch.dtype = torch.float32) -> set[torch.dtype]:
    """Convert the weights of a model for training, in place; return the dtypes that they had.

    Updates are often smaller than what float16 and bfloat16 can tell apart, so weights are kept in
    float32 unless something else is asked for. Wider ones, and quantized ones, stay as they are.

    Args:
        model: the model, a PeftModel around it, or a policy.
        dtype: the dtype that weights are to have.
    """
    if any(getattr(part, "is_quantized", False) for part in model.modules()):
        return set()
    tensors: list[Tensor] = [*model.parameters()]
    if dtype == torch.float32:
        tensors = [w for w in (*tensors, *model.buffers()) if w.is_floating_point()]
        tensors = [w for w in tensors if w.dtype.itemsize < dtype.itemsize]
    tensors = [w for w in tensors if w.is_floating_point() and w.dtype != dtype]
    found = {tensor.dtype for tensor in tensors}
    for tensor in tensors:
        tensor.data = tensor.data.to(dtype)
    _recompute_constants(model, {id(tensor) for tensor in tensors})
    return found


def _recompute_constants(model: nn.Module, converted: set[int]) -> None:
    """Recompute what a model computes instead of saving it, such as sinusoidal positions.

    Otherwise it would keep the rounding of the dtype that it was loaded in, which the saved model
    does not have when it is loaded again.

    Args:
        model: the model.
        converted: the identities of the tensors whose dtype was changed.
    """
    owners: dict[nn.Module, PreTrainedModel] = {}
    for owner in model.modules():
        if isinstance(owner, PreTrainedModel):
            owners |= dict.fromkeys(owner.modules(), owner)  # inner models come later
    unsaved = {
        id(tensor)
        for owner in {*owners.values()}
        for name in owner._keys_to_ignore_on_save or ()
        for tensor in [_find_tensor(owner, name)]
    }
    for module, owner in owners.items():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        names = module._non_persistent_buffers_set
        unsaved |= {id(getattr(module, name)) for name in names}
        constants = [tensor for tensor in own if id(tensor) in unsaved & converted]
        if not constants:
            continue
        # The functions of transformers that initialize weights leave alone what is marked.
        marked = [tensor for tensor in own if all(tensor is not each for each in constants)]
        for tensor in marked:
            tensor._is_hf_initialized = True  # type: ignore[attr-defined]
        with torch.no_grad(), torch.random.fork_rng(devices=[]), draw_in_float32():
            owner._init_weights(module)
        for tensor in marked:
            del tensor._is_hf_initialized  # type: ignore[attr-defined]


def _find_tensor(model: nn.Module, name: str) -> Tensor | None:
    """Return a parameter or buffer by its name, if the model has it."""
    module = model
    *path, last = name.split(".")
    for part in path:
        found = getattr(module, part, None)
        if not isinstance(found, nn.Module):
            return None
        module = found
    found = getattr(module, last, None)
    return found if isinstance(found, Tensor) else None


@contextmanager
def draw_in_float32() -> Iterator[None]:
    """Make new weights at least as precise as float32 inside the block."""
    before = torch.get_default_dtype()
    if before.itemsize < torch.float32.itemsize:
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def ignore_peft_warning() -> Iterator[None]:
    """Ignore warnings of peft that a user can do nothing about.

    One is about an attribute that it reads and transformers is about to remove, one about models
    of which only a part (GPT-2 behind an encoder of images) stores transposed matrices.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
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

    The hub is not asked for what is in a folder, or where it does not answer.
    Whatever a library raises while it reads a damaged or foreign file is an error of that file.

    Raises:
        CheckpointError: if it cannot be loaded.
    """
    local = Path(path).exists()
    offline = local or not can_reach_hub()
    try:
        with quiet_transformers(), use_cache_only() if offline else nullcontext():
            yield
    except (CheckpointError, MissingExtraError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = _find_reason(error)
        if offline and not local and isinstance(error, OSError):
            reason = "there is no such folder, it is not in the cache, and the hub does not answer"
        if "trust_remote_code" in str(error):
            reason = "it needs custom code, which is never run"
        raise CheckpointError(f"{path}: {reason}") from error


def _find_reason(error: Exception) -> str:
    """Return what is wrong in a line; messages of libraries may have many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):  # its message is the key alone
        return repr(error) if lines else type(error).__name__
    if "ignore_mismatched_sizes" in lines[0]:
        return "its weights have other shapes than its configuration says"
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
