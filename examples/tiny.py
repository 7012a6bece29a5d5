"""Tiny models and a tokenizer, in place of pretrained ones, for the other examples.

For your own model, use `AutoModelForCausalLM.from_pretrained(name)` or
`AutoModelForSeq2SeqLM.from_pretrained(name)`, and `AutoTokenizer.from_pretrained(name)`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)


def character_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the characters of these texts; all others are unknown."""
    characters = sorted(set().union(*texts))
    tokens = {token: i for i, token in enumerate(("<eos>", "<unk>", *characters))}
    plain = Tokenizer(WordLevel(tokens, unk_token="<unk>"))
    plain.pre_tokenizer = Split("", "isolated")
    plain.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<eos>", unk_token="<unk>")


def causal_model(tokenizer: PreTrainedTokenizerFast, width: int = 64) -> LlamaForCausalLM:
    """Return a causal model with two layers and random weights from a fixed seed."""
    eos = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


def seq2seq_model(
    tokenizer: PreTrainedTokenizerFast, width: int = 64
) -> T5ForConditionalGeneration:
    """Return an encoder-decoder with two layers on each side and random weights."""
    eos = tokenizer.eos_token_id
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=width // 4,
        d_ff=2 * width,
        num_layers=2,
        num_heads=4,
        eos_token_id=eos,
        pad_token_id=eos,
        decoder_start_token_id=eos,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return T5ForConditionalGeneration(config)
