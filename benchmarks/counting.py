"""A toy task for Transformers, in which the prompt determines the length of the output."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.optim import Adam
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from freerun.batch import Batch, Source
from freerun.methods import MLE, Clock
from freerun.models.huggingface import HuggingFacePolicy, adapt
from freerun.vocabulary import Vocabulary

EOS = 0


@dataclass(frozen=True)
class Toy:
    """Prompts that repeat a number n, from which a target counts down to eos.

    Tokens are eos, the numbers 1 … `most`, the padding, and unused ones.

    Args:
        tokens: the number of tokens.
        most: the maximum n, which is the length of a target with its eos.
        least: the minimum n.
        prompt: the number of tokens of a prompt.
        rows: the number of rows of a batch.
        backspace: whether the last token is a backspace.
    """

    tokens: int = 1000
    most: int = 64
    least: int = 1
    prompt: int = 16
    rows: int = 64
    backspace: bool = False

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary, in which every token is an action."""
        pad, last = self.most + 1, self.tokens - 1 if self.backspace else None
        symbols = tuple(map(str, range(self.tokens)))
        return Vocabulary(symbols, bos=pad, pad=pad, eos=EOS, backspace=last)

    def batch(self, device: torch.device, seed: int = 0, fixed: bool = False) -> Batch:
        """Return prompts and targets; with `fixed`, all targets have the maximum length."""
        generator = torch.Generator().manual_seed(seed)
        least = self.most if fixed else self.least
        count = torch.randint(least, self.most + 1, (self.rows,), generator=generator)
        prompt = count[:, None].repeat(1, self.prompt)
        target = count[:, None] - 1 - torch.arange(self.most)
        mask = target >= EOS
        target = target.where(mask, self.vocabulary.pad)[:, : int(count.max())]
        batch = Batch(
            torch.arange(self.rows),
            Source(prompt, torch.ones_like(prompt, dtype=torch.bool)),
            target,
            mask[:, : int(count.max())],
        )
        return Batch.from_tensors(
            {name: tensor.to(device) for name, tensor in batch.tensors().items()}
        )

    def policy(self, kind: str, device: torch.device, updates: int = 150) -> HuggingFacePolicy:
        """Return a model with 4 layers of 128, trained until it can count, in evaluation mode."""
        model = KINDS[kind](self).to(device)
        policy = adapt(model, self.vocabulary, limit=self.most)
        optimizer, few = Adam(policy.parameters(), 2e-3), replace(self, rows=16)
        for step in range(updates):
            batch = few.batch(device, seed=step + 1)
            optimizer.zero_grad()
            outcome = MLE().loss(policy, batch, Clock())
            (outcome.total / outcome.count).backward()
            optimizer.step()
        return policy.eval()

    @property
    def special(self) -> dict[str, int]:
        """Return the special tokens, as arguments of a transformers configuration."""
        pad = self.vocabulary.pad
        return {"bos_token_id": pad, "eos_token_id": EOS, "pad_token_id": pad}


def gpt2(toy: Toy) -> PreTrainedModel:
    """Return a GPT-2: learned positions, no dropout."""
    config = GPT2Config(
        vocab_size=toy.tokens,
        n_positions=toy.prompt + toy.most,
        n_embd=128,
        n_layer=4,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **toy.special,
    )
    return GPT2LMHeadModel(config)


def llama(toy: Toy) -> PreTrainedModel:
    """Return a Llama: rotary positions, two key-value heads for four query heads."""
    config = LlamaConfig(
        vocab_size=toy.tokens,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=344,
        **toy.special,
    )
    return LlamaForCausalLM(config)


def t5(toy: Toy) -> PreTrainedModel:
    """Return a T5: relative positions, an encoder as deep as the decoder, no dropout."""
    config = T5Config(
        vocab_size=toy.tokens,
        d_model=128,
        d_kv=32,
        d_ff=512,
        num_layers=4,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=toy.vocabulary.bos,
        **toy.special,
    )
    return T5ForConditionalGeneration(config)


KINDS = {"gpt2": gpt2, "llama": llama, "t5": t5}
