"""What tests of SequenceMatch run in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from freerun.methods import SequenceMatch
from tests.training.huggingface import end_in, lora, trainer
from tests.training.tiny_models import tiny_model

MATCH = SequenceMatch(
    noise=0.2,
    noise_run=2,
    alpha=0.05,
    gamma=0.9,
    warm_up=0.2,
    anneal=0.3,
    period=2,
    samplings=2,
)
"""Noise, a warm-up, and a buffer that old samplings leave, in the six updates of a tiny run."""


def matched(output: str, base: str | None = None, **settings: Any) -> None:
    """A few updates of a causal model; where there is a base, of adapters of it.

    It goes on where it was cut short. The first process leaves what was logged.
    """
    dtype = getattr(torch, settings.pop("dtype", "float64"))
    model: Any = tiny_model("gpt2", dtype=dtype, dropout=settings.pop("dropout", 0.0))
    if base is not None:
        model = type(model).from_pretrained(base, dtype=dtype)
        settings["peft_config"] = lora(lora_dropout=0.0)
    found = trainer(output, model, MATCH, **settings)
    found.train(resume_from_checkpoint=any(Path(output).glob("checkpoint-*")) or None)
    found.save_model(output)
    if found.args.should_save:
        Path(output, "log.json").write_text(json.dumps(found.state.log_history))


def cut(output: str, update: int, **settings: Any) -> None:
    """`matched`, saved after every update, which ends in the middle of one."""
    end_in(update)
    matched(output, **settings)
