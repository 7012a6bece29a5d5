"""Hugging Face models of a few hundred weights for the tiny task, in its own letters."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.training.tiny_task import TinyCodec

CODEC = TinyCodec()
KINDS = ("gpt2", "llama", "t5")


def tiny_model(kind, *, codec=CODEC, dropout=0.0, dtype=torch.float32, seed=0):
    """A model that reads and writes the letters of the tiny task; drawn by `seed`."""
    words, sources = codec.target, codec.factors[0]
    rows = words.size + sources
    special = {"bos_token_id": words.bos, "eos_token_id": words.eos, "pad_token_id": words.pad}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "gpt2":
            drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
            config = GPT2Config(
                vocab_size=rows, n_embd=8, n_layer=2, n_head=2, n_positions=16, **special, **drops
            )
            model = GPT2LMHeadModel(config)
        elif kind == "llama":
            config = LlamaConfig(
                vocab_size=rows,
                hidden_size=8,
                intermediate_size=12,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                attention_dropout=dropout,
                max_position_embeddings=32,
                **special,
            )
            model = LlamaForCausalLM(config)
        else:
            config = T5Config(
                vocab_size=rows,
                d_model=8,
                d_kv=4,
                d_ff=12,
                num_layers=2,
                num_heads=2,
                dropout_rate=dropout,
                decoder_start_token_id=words.bos,
                **special,
            )
            model = T5ForConditionalGeneration(config)
    return model.to(dtype).eval()


def tiny_tokenizer(**settings):
    """A tokenizer of single characters; eos is also what fills shorter rows, unless told."""
    characters = "0123456789+-=? abcdefghijklmnopqrstuvwxyz"
    tokens = {token: i for i, token in enumerate(("<eos>", "<unk>", *characters))}
    plain = Tokenizer(WordLevel(tokens, unk_token="<unk>"))
    plain.pre_tokenizer = Split("", "isolated")
    plain.decoder = Fuse()
    special = {"eos_token": "<eos>", "unk_token": "<unk>"} | settings
    return PreTrainedTokenizerFast(tokenizer_object=plain, **special)


def text_model(kind="llama", tokenizer=None, **settings):
    """A model of the tokens of a tokenizer."""
    size = len(tokenizer or tiny_tokenizer())
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if kind == "t5":
        small = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2}
        config = T5Config(vocab_size=size, decoder_start_token_id=0, **small, **special, **settings)
    else:
        small = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
        small |= {"num_attention_heads": 2, "num_key_value_heads": 1}
        config = LlamaConfig(vocab_size=size, **small, **special, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config) if kind != "t5" else T5ForConditionalGeneration(config)
    return model.eval()
