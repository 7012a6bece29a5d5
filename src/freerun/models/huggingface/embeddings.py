"""The rows of tokens in the tables of a Hugging Face model, and how to add one for a backspace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, SpeechEncoderDecoderModel, VisionEncoderDecoderModel

from freerun.vocabulary import Vocabulary


def shifts_tokens(vocabulary: Vocabulary, *, shared: bool) -> bool:
    """Return whether tokens with higher ids must move up to make room for a backspace.

    These are tokens that are only read (bos, pad and those of sources), in freerun's own
    vocabularies. The backspace of a tokenizer comes after all its tokens.

    Args:
        vocabulary: the tokens that the model writes, with a backspace.
        shared: whether sources are written in the tokens of targets.
    """
    return not shared or vocabulary.size > vocabulary.actions


def count_embeddings(model: PreTrainedModel) -> int:
    """Return the number of tokens that a model has embeddings of."""
    rows: int = find_text_model(model).get_input_embeddings().weight.shape[0]
    return rows


def find_text_model(model: PreTrainedModel) -> PreTrainedModel:
    """Return the part of a model that has the tables of tokens.

    This is the model itself, or the decoder of one that is composed of two models, whose encoder
    reads images or sounds.
    """
    composed = isinstance(model, VisionEncoderDecoderModel | SpeechEncoderDecoderModel)
    return cast("PreTrainedModel", model.decoder) if composed else model


@torch.no_grad()
def add_backspace_row(model: PreTrainedModel, vocabulary: Vocabulary, *, shared: bool) -> None:
    """Add the rows of a backspace to a model in place: the means of the rows of all other actions.

    Its score is then the mean m of theirs in every state. As exp is convex, exp(m) is at most the
    mean of their exponentials, and its probability is at most 1 divided by the number of actions;
    slightly more in a model that caps its scores.

    Tokens with higher ids move up by one, and so do ids in the configuration (see
    `shifts_tokens`). Otherwise the row of its id is used, or added. Tied tables stay tied.

    Args:
        model: the model, without adapters around it.
        vocabulary: the tokens that the model writes.
        shared: whether sources are written in the tokens of targets.

    Raises:
        ValueError: if the vocabulary has no backspace, or source and target have separate tables.
    """
    token, rows, behind = (
        vocabulary.backspace,
        count_embeddings(model),
        shifts_tokens(vocabulary, shared=shared),
    )
    if token is None:
        raise ValueError("the vocabulary has no backspace")
    _check_one_table(model)
    part = find_text_model(model)
    if behind or token >= rows:
        with torch.random.fork_rng(devices=[]):  # the weights that it draws are overwritten
            part.resize_token_embeddings(rows + 1 if behind else token + 1, mean_resizing=False)
    for table in _find_tables(part):
        if behind:
            table[token + 1 :] = table[token:-1].clone()
        # Without the row itself, whose values are arbitrary.
        parts = table[:token], table[token + 1 : vocabulary.actions]
        kind = torch.promote_types(table.dtype, torch.float32)  # bfloat16 cannot sum so many
        total = torch.stack([part.sum(0, dtype=kind) for part in parts]).sum(0)
        table[token] = total / (vocabulary.actions - 1)
    if behind:
        _move_special(model, token)


def adapter_save_options(model: Any) -> dict[str, Any]:
    """Return options of `save_pretrained`: adapters that train single rows save only those."""
    # Only a PeftModel has a peft_config, and only LoRA's can train single rows.
    configs = getattr(model, "peft_config", None) or {}
    trained = [getattr(config, "trainable_token_indices", None) for config in configs.values()]
    return {"save_embedding_layers": False} if any(trained) else {}


def _find_tables(model: PreTrainedModel) -> Iterator[Float[Tensor, "v *h"]]:
    """Yield the tensors that have a row for each token; tied ones only once."""
    head = model.get_output_embeddings()
    found = [model.get_input_embeddings().weight, head.weight, getattr(head, "bias", None)]
    constant = getattr(model, "final_logits_bias", None)  # of BART
    found.append(None if constant is None else constant.T)
    yield from {id(table): table for table in found if table is not None}.values()


def _move_special(model: PreTrainedModel, token: int) -> None:
    """Raise the ids of special tokens from `token` on by one, in configurations and modules."""
    part = find_text_model(model)
    table = part.get_input_embeddings().weight
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight is table:
            pad = module.padding_idx  # whose row gets no gradient
            module.padding_idx = pad if pad is None or pad < token else pad + 1
    configs = [
        model.config,
        part.config,
        part.config.get_text_config(),
        model.generation_config,
        part.generation_config,
    ]
    for config in {id(config): config for config in configs if config is not None}.values():
        for name, value in list(vars(config).items()):
            if name.endswith("_token_id") and isinstance(value, int) and value >= token:
                setattr(config, name, value + 1)
        suppressed = getattr(config, "suppress_tokens", None)  # only of generation configs
        if suppressed:
            config.suppress_tokens = [each + (each >= token) for each in suppressed]


def _check_one_table(model: PreTrainedModel) -> None:
    if model.config.is_encoder_decoder and model.main_input_name == "input_ids":
        decoder = model.get_decoder().get_input_embeddings()
        if decoder.weight is not model.get_input_embeddings().weight:
            raise ValueError(
                f"{type(model).__name__} cannot be given a backspace: its source and its target "
                "have tables of their own"
            )
