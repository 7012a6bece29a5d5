"""The generation config of a model, which describes how freerun decodes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from freerun.vocabulary import Vocabulary

_NEUTRAL = {
    "transformers_version",
    "bos_token_id",
    "pad_token_id",
    "max_length",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "return_dict_in_generate",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
}
"""Settings that do not affect which tokens are chosen, and the maximum length, set by the task."""


_WHISPER = ("is_multilingual", "lang_to_id", "task_to_id", "no_timestamps_token_id")
"""Settings of Whisper alone: its special tokens."""


def make_generation_config(
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    max_new_tokens: int,
    prefix: Sequence[int] = (),
) -> GenerationConfig:
    """Return the settings with which `generate` writes the same as greedy decoding of freerun.

    Args:
        model: the model.
        vocabulary: the tokens that it writes. Other columns of its scores are suppressed.
        max_new_tokens: the maximum number of tokens of an output, eos included.
        prefix: the tokens that a decoder reads before bos.
    """
    table = model.get_output_embeddings()
    columns = vocabulary.actions if table is None else table.weight.shape[0]
    unused = list(range(vocabulary.actions, columns))
    first = [*prefix, vocabulary.bos][0]
    start = {"decoder_start_token_id": first} if model.config.is_encoder_decoder else {}
    start |= _describe_prefix(model, prefix)
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        bos_token_id=vocabulary.bos,
        eos_token_id=vocabulary.eos,
        pad_token_id=vocabulary.pad,
        suppress_tokens=unused or None,
        **start,
    )


def _describe_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> dict[str, Any]:
    """Return the settings by which `generate` of Whisper begins with the tokens of a prefix."""
    own: dict[str, Any] = vars(getattr(model, "generation_config", None) or GenerationConfig())
    found = {name: own[name] for name in _WHISPER if own.get(name) is not None}
    for name, table in (("language", "lang_to_id"), ("task", "task_to_id")):
        words = [word for word, token in (own.get(table) or {}).items() if token in prefix]
        if words:
            found[name] = words[0]
    return found


def find_replaced_settings(model: PreTrainedModel, config: GenerationConfig) -> dict[str, Any]:
    """Return the settings of the model's own generation config that differ in another one.

    Args:
        model: the model.
        config: the other one, such as that of `make_generation_config`.
    """
    own = getattr(model, "generation_config", None)  # only models that can generate have one
    known = {} if own is None else own.to_diff_dict()
    misplaced = find_misplaced_settings(model.config)
    known = {**{name: getattr(model.config, name) for name in misplaced}, **known}
    other = config.to_dict()
    return {
        name: value
        for name, value in known.items()
        if name not in _NEUTRAL and not name.startswith("_") and _one(value) != other.get(name)
    }


def find_misplaced_settings(config: PreTrainedConfig) -> list[str]:
    """Return the names of settings of generation that were set on the configuration of a model.

    transformers does not save a model with such a configuration.
    """
    own = {field.name for field in fields(config)}
    names = GenerationConfig().to_dict().keys() - own - _NEUTRAL
    return sorted(name for name in names if vars(config).get(name) is not None)


def _one(value: object) -> Any:
    """Return the only element of a list of one, such as a list of one eos token."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
