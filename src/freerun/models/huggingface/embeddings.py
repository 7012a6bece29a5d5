"""The rows that tokens have in the tables of a Hugging Face model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from freerun.vocabulary import Vocabulary


def moves(vocabulary: Vocabulary, *, shared: bool) -> bool:
    """Whether tokens stand behind a backspace that are only read: bos, pad, those of sources.

    They do in vocabularies of our own. A tokenizer's backspace stands behind all its tokens.

    Args:
        vocabulary: what a model writes, a backspace too.
        shared: whether sources are written in the tokens of targets.
    """
    return not shared or vocabulary.size > vocabulary.actions


def rows_of(model: PreTrainedModel) -> int:
    """How many tokens a model reads."""
    rows: int = model.get_input_embeddings().weight.shape[0]
    return rows


@torch.no_grad()
def add_backspace_row(model: PreTrainedModel, vocabulary: Vocabulary, *, shared: bool) -> None:
    """Give a model, in place, the rows of a backspace: the means of those of all other actions.

    So its score is the mean m of theirs, at every state. As exp is convex, exp(m) is at most the
    mean of their exponentials, and its probability at most one in the number of actions. (A model
    that bounds its scores softly may come to a little more.)

    Where tokens stand behind it, they move up by one, with the ids of the configuration. Else it
    takes the row of its id, one to spare or a new one. Tied tables stay tied.

    Args:
        model: the model, without adapters around it.
        vocabulary: what it is to write.
        shared: whether sources are written in the tokens of targets.

    Raises:
        ValueError: where the vocabulary has no backspace, or source and target have tables of their
            own.
    """
    token, rows, behind = vocabulary.backspace, rows_of(model), moves(vocabulary, shared=shared)
    if token is None:
        raise ValueError("the vocabulary has no backspace")
    _check_one_table(model)
    if behind or token >= rows:
        with torch.random.fork_rng(devices=[]):  # the weights it draws are not kept
            model.resize_token_embeddings(rows + 1 if behind else token + 1, mean_resizing=False)
    for table in _tables(model):
        if behind:
            table[token + 1 :] = table[token:-1].clone()
        parts = table[:token], table[token + 1 : vocabulary.actions]
        kind = torch.promote_types(table.dtype, torch.float32)
        total = torch.stack([part.sum(0, dtype=kind) for part in parts]).sum(0)
        table[token] = total / (vocabulary.actions - 1)
    if behind:
        _move_special(model, token)


def of_rows(model: Any) -> dict[str, Any]:
    """How a model is saved: adapters that train rows of tables hold those rows, not all."""
    configs = getattr(model, "peft_config", None) or {}
    trained = [getattr(config, "trainable_token_indices", None) for config in configs.values()]
    return {"save_embedding_layers": False} if any(trained) else {}


def _tables(model: PreTrainedModel) -> Iterator[Float[Tensor, "v *h"]]:
    """What has a row for each token; tables that are tied come once."""
    head = model.get_output_embeddings()
    found = [model.get_input_embeddings().weight, head.weight, getattr(head, "bias", None)]
    constant = getattr(model, "final_logits_bias", None)  # of BART
    found.append(None if constant is None else constant.T)
    yield from {id(table): table for table in found if table is not None}.values()


def _move_special(model: PreTrainedModel, token: int) -> None:
    """Let special tokens that stood at `token` or behind it be found where they are now."""
    table = model.get_input_embeddings().weight
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight is table:
            pad = module.padding_idx
            module.padding_idx = pad if pad is None or pad < token else pad + 1
    configs = [model.config, model.config.get_text_config(), model.generation_config]
    for config in {id(config): config for config in configs if config is not None}.values():
        for name, value in list(vars(config).items()):
            if name.endswith("_token_id") and isinstance(value, int) and value >= token:
                setattr(config, name, value + 1)


def _check_one_table(model: PreTrainedModel) -> None:
    if model.config.is_encoder_decoder:
        decoder = model.get_decoder().get_input_embeddings()
        if decoder.weight is not model.get_input_embeddings().weight:
            raise ValueError(
                f"{type(model).__name__} cannot be given a backspace: its source and its target "
                "have tables of their own"
            )
