"""Adapters of peft, which also train the rows of a new token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from freerun.imports import import_extra
from freerun.models.huggingface.embeddings import find_text_model
from freerun.models.loading import ignore_peft_warning

SCALE = 2
"""The scale of LoRA: alpha divided by the rank."""


def add_lora(model: PreTrainedModel, rank: int, token: int | None = None) -> nn.Module:
    """Freeze a model, and add LoRA to all linear layers but the last.

    Hu et al. 2021 (arXiv 2106.09685): W x becomes W x + 2 B A x, where A and B have `rank` rows and
    columns. A is drawn from torch's RNG, and B is zero, so that nothing changes at first.

    Args:
        model: the model.
        rank: of the adapters.
        token: a new token, whose rows are trained, too.

    Raises:
        MissingExtraError: if peft is not installed.
        ValueError: if rows of the new token cannot be trained.
    """
    peft = import_extra("peft", "lora", "lora")
    config = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        r=rank,
        lora_alpha=SCALE * rank,
        target_modules="all-linear",
        # GPT-2 stores transposed matrices.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    return add_adapters(model, config, token)


def add_adapters(model: PreTrainedModel, config: Any, token: int | None = None) -> nn.Module:
    """Freeze a model, and add adapters, drawn from torch's RNG.

    Args:
        model: the model.
        config: the configuration of peft.
        token: a new token, whose rows are trained, too.

    Raises:
        MissingExtraError: if peft is not installed.
        ValueError: if rows of the new token cannot be trained.
    """
    peft = import_extra("peft", "lora", "a model with adapters")
    if token is not None:
        config = add_token_rows(config, model, token)
    with ignore_peft_warning():
        return peft.get_peft_model(model, config)


def find_base_model(model: Any) -> PreTrainedModel:
    """Return the model itself, without the adapters around it, if there are any."""
    unwrap = getattr(model, "get_base_model", None)
    found: PreTrainedModel = model if unwrap is None else unwrap()
    return found


def add_token_rows(config: Any, model: PreTrainedModel, token: int) -> Any:
    """Return a configuration of adapters that also train and save the rows of a token.

    Args:
        config: the configuration of peft.
        model: the model of the adapters, which has the rows already.
        token: the token. Its embedding is trained, and its row of the output layer if that is not
            tied.

    Raises:
        ValueError: if adapters of this kind, or of this model, cannot train single rows.
    """
    if not hasattr(config, "trainable_token_indices"):
        raise ValueError(
            f"adapters of the kind {config.peft_type.value} cannot train the row of a new token, "
            "the backspace; LoRA can"
        )
    own = config.trainable_token_indices or {}
    embedding, output = _table_names(model)
    rows = {name: list(kept) for name, kept in own.items()} if isinstance(own, dict) else {}
    if not isinstance(own, dict):
        rows[embedding] = list(own)
    names = [embedding, *([output] if output is not None else [])]
    for name in names:
        if not _is_saved_whole(config, name):
            same = next((key for key in rows if name.endswith(key)), name)
            rows[same] = sorted({*rows.get(same, []), token})
    return replace(config, trainable_token_indices=rows or None)


def renew_adapters(model: Any, token: int, change: Callable[[PreTrainedModel], None]) -> Any:
    """Change the base model of trained adapters, and let them also train the rows of a token.

    Args:
        model: a PeftModel, which cannot be used afterwards.
        token: the new token.
        change: adds the rows to the base model.

    Raises:
        ValueError: if there are several sets of adapters, or they cannot train single rows.
    """
    peft = import_extra("peft", "lora", "a model with adapters")
    if len(model.peft_config) != 1:
        raise ValueError(
            f"the model has {len(model.peft_config)} sets of adapters; with a new token, the "
            "backspace, only one can be used"
        )
    ((name, config),) = model.peft_config.items()
    base = model.get_base_model()
    add_token_rows(config, base, token)  # raises before anything is changed
    whole = any(_is_saved_whole(config, name) for name in _table_names(base) if name is not None)
    if whole or getattr(config, "trainable_token_indices", None):
        raise ValueError(
            "the adapters hold rows of tokens (trainable_token_indices, modules_to_save), and "
            "cannot be given those of another token, the backspace"
        )
    training = any(weight.requires_grad for weight in model.parameters())
    state = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    mode = model.training
    base = model.unload()
    change(base)
    config = add_token_rows(config, base, token)
    with torch.random.fork_rng(devices=[]), ignore_peft_warning():
        found = peft.get_peft_model(base, config, adapter_name=name)
        new = peft.get_peft_model_state_dict(found, adapter_name=name, save_embedding_layers=False)
        peft.set_peft_model_state_dict(found, {**new, **state}, adapter_name=name)
    if not training:
        found.requires_grad_(False)
    return found.train(mode)


def _table_names(model: PreTrainedModel) -> tuple[str, str | None]:
    """Return the names of the tables of embeddings and of the output layer; None if they are tied.

    Raises:
        ValueError: if peft would train or save only a part of what depends on the rows.
    """
    part = find_text_model(model)
    embedding, output = part.get_input_embeddings(), part.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    tied = output.weight is embedding.weight
    fault = None
    if getattr(output, "bias", None) is not None:
        fault = "its output has a bias, which peft would leave out"
    elif model.config.is_encoder_decoder and not tied:
        fault = "its output is not tied to its embeddings"
    if fault is not None:
        raise ValueError(
            f"adapters of {type(model).__name__} cannot train the row of a new token, the "
            f"backspace: {fault}"
        )
    return names[id(embedding)], None if tied else names[id(output)]


def _is_saved_whole(config: Any, name: str) -> bool:
    """Return whether a table is saved with the adapters, not only some of its rows."""
    return any(name.endswith(module) for module in config.modules_to_save or ())
