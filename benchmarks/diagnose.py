"""Time a diagnosis relative to greedy decoding of the same sentences.

Run `python benchmarks/diagnose.py --json diagnose.json`. Ratios are of times measured side by side:
of a recurrent model on 1,000 sentences of the size of spelling, and of a GPT-2 and a BART with 4
layers of 256 and 8,000 tokens. All are trained for some updates before.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from counting import KINDS, Toy
from each_model import Figures, benchmark
from recurrent import spelling
from timing import ratio, side_by_side
from torch.optim import Adam
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from freerun.batch import Batch
from freerun.data import Examples
from freerun.evaluation import batches_by_length, decode, measure_exposure_bias, on_device
from freerun.methods import MLE, Clock
from freerun.policy import Policy

BATCH = 64


@dataclass(frozen=True)
class Rows:
    """The rows of a batch as examples."""

    rows: Batch

    def __len__(self) -> int:
        return len(self.rows.ids)

    @property
    def references(self) -> list[list[int]]:
        """The targets without eos."""
        pairs = zip(self.rows.target.tolist(), self.rows.lengths.tolist(), strict=True)
        return [row[: length - 1] for row, length in pairs]

    def batch(self, numbers: Sequence[int], epoch: int = 0) -> Batch:
        """Return some rows."""
        return self.rows.select(torch.tensor(numbers))


def gpt2(toy: Toy) -> PreTrainedModel:
    """Return a GPT-2 of 4 layers of 256, without dropout."""
    sizes = {"n_positions": toy.prompt + toy.most, "n_embd": 256, "n_layer": 4, "n_head": 4}
    rates = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=toy.tokens, **sizes, **rates, **toy.special))


def bart(toy: Toy) -> PreTrainedModel:
    """Return a BART with an encoder and a decoder of 4 layers of 256, without dropout."""
    sizes = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in {"layers": 4, "attention_heads": 4, "ffn_dim": 1024}.items()
    }
    config = BartConfig(
        vocab_size=toy.tokens,
        d_model=256,
        max_position_embeddings=max(toy.prompt, toy.most) + 2,
        dropout=0.0,
        decoder_start_token_id=toy.vocabulary.bos,
        forced_eos_token_id=None,
        **sizes,
        **toy.special,
    )
    return BartForConditionalGeneration(config)


KINDS |= {"gpt2": gpt2, "bart": bart}


def prepare(kind: str, device: torch.device, quick: bool) -> tuple[Policy, Examples]:
    """Return a model after some updates, and examples."""
    if kind != "recurrent":
        toy = Toy(tokens=1000 if quick else 8000, rows=32 if quick else 4 * BATCH)
        policy = toy.policy(kind, device, updates=5 if quick else 60)
        return policy, Rows(toy.batch(torch.device("cpu")))
    size = spelling(1000)
    policy = size.model.build(size.codec).to(device)
    optimizer = Adam(policy.parameters(), 2e-3)
    for step in range(5 if quick else 100):
        batch = size.examples.batch([(step * 64 + i) % 1000 for i in range(64)])
        optimizer.zero_grad()
        outcome = MLE().loss(policy, on_device(batch, policy), Clock())
        (outcome.total / outcome.count).backward()
        optimizer.step()
    return policy.eval(), size.examples


def measure(kind: str, rounds: int, device: torch.device, quick: bool) -> Figures:
    """Return the figures of one model."""
    policy, examples = prepare(kind, device, quick)

    def write() -> None:
        for numbers in batches_by_length(examples, BATCH):
            decode(policy, on_device(examples.batch(numbers), policy).source)

    runs = {
        "diagnose": lambda: measure_exposure_bias(policy, examples, batch_size=BATCH),
        "greedy": write,
    }
    times = side_by_side(runs, rounds=rounds, device=device)
    return {
        "diagnose_vs_greedy": ratio(times, "diagnose", "greedy"),
        "diagnose_seconds": statistics.median(times["diagnose"]),
        "examples": float(len(examples)),
    }


if __name__ == "__main__":
    kinds = ("recurrent", "gpt2", "bart")
    benchmark(__doc__.splitlines()[0], kinds, measure, lambda key: False)
