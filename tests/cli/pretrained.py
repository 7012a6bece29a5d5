"""Tiny pretrained models: random weights with a tokenizer of bytes."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from tests.tasks.tiny_tokenizers import byte_tokenizer

BYTES = 258
"""All bytes, eos and bos."""


def save_causal(folder, *, tokenizer=True, seed=0):
    """A GPT-2 of one layer in `folder`."""
    words = byte_tokenizer(size=BYTES)
    special = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    config = GPT2Config(
        vocab_size=len(words), n_embd=8, n_layer=1, n_head=2, n_positions=64, **special
    )
    _save(folder, GPT2LMHeadModel, config, words if tokenizer else None, seed)


def save_seq2seq(folder, *, seed=0):
    """A T5 of one layer in `folder`."""
    words = byte_tokenizer(size=BYTES)
    eos = words.eos_token_id
    special = {"eos_token_id": eos, "pad_token_id": eos, "decoder_start_token_id": eos}
    config = T5Config(
        vocab_size=len(words), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, **special
    )
    _save(folder, T5ForConditionalGeneration, config, words, seed)


def _save(folder, model, config, tokenizer, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model(config).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
