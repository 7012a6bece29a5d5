"""What tests of Hugging Face models run, in processes of their own or not."""

from __future__ import annotations

import json
import os
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import TrainingArguments

from freerun.errors import CheckpointError
from freerun.methods import DifferentiableScheduledSampling, ScheduledSampling
from freerun.training import Trainer
from tests.helpers import searnn
from tests.pages import ROOT
from tests.training.children import at_update
from tests.training.tiny_models import tiny_model
from tests.training.tiny_task import Tiny

TASK = Tiny()
DATA = TASK.load()
OWN = ScheduledSampling(feedback="sample", schedule="constant", k=0.5)
"""Half of the tokens that are read are the model's own."""


def lora(**settings: Any) -> LoraConfig:
    """Adapters of all linear layers of GPT-2."""
    settings = {"r": 2, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, **settings}
    return LoraConfig(task_type="CAUSAL_LM", **settings)


def trainer(output: Any, model: Any, method: Any = OWN, **settings: Any) -> Trainer:
    """A Trainer of few updates; `settings` are its members, and arguments of transformers."""
    members = {
        name: settings.pop(name)
        for name in ("peft_config", "callbacks", "dtype")
        if name in settings
    }
    members |= {"processing_class": DATA.codec, "train_dataset": DATA.train}
    members |= {"eval_dataset": DATA.dev, "task": TASK}
    arguments = {
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 3,
        "learning_rate": 0.01,
        "logging_steps": 2,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 5,
        **settings,
    }
    # transformers called it gradient_checkpointing first.
    known = TrainingArguments.__dataclass_fields__
    arguments = {
        name if name in known else name.replace("activation", "gradient"): value
        for name, value in arguments.items()
    }
    return Trainer(model, method, TrainingArguments(str(output), **arguments), **members)


def exact(output: str, kind: str, base: str | None = None, **settings: Any) -> None:
    """A few updates in float64; the first process leaves the weights, and what was logged.

    Where there is a base, adapters of it are trained.
    """
    model: Any = tiny_model(kind, dtype=torch.float64)
    if base is not None:
        model = type(model).from_pretrained(base, dtype=torch.float64)
        settings["peft_config"] = lora(lora_dropout=0.0)
    found = trainer(output, model, eval_strategy="steps", eval_steps=4, **settings)
    found.train()
    found.save_model(output)
    if found.args.should_save:
        Path(output, "log.json").write_text(json.dumps(found.state.log_history))


def resumable(output: str, base: str | None, **settings: Any) -> None:
    """A run with dropout that is saved after every update, and goes on where it was cut short."""
    model: Any = tiny_model("gpt2", dropout=0.3) if base is None else base
    if base is not None:
        settings["peft_config"] = lora(lora_dropout=0.3)
    settings = {"save_strategy": "steps", "save_steps": 1, **settings}
    found = trainer(output, model, **settings)
    found.train(resume_from_checkpoint=any(Path(output).glob("checkpoint-*")) or None)
    found.save_model(output)


def end_in(update: int) -> None:
    """Let this process end in the middle of an update."""
    at_update(torch.optim.AdamW, update, partial(os._exit, 7))


def killed(output: str, base: str | None, update: int, **settings: Any) -> None:
    """`resumable`, which ends in the middle of an update."""
    end_in(update)
    resumable(output, base, **settings)


def exact_by(output: str, method: str, **settings: Any) -> None:
    """As `exact`, by a method whose passes differ in number from batch to batch."""
    methods = {
        "relaxed": DifferentiableScheduledSampling(schedule="constant", k=0.5),
        "searched": searnn(cost="edit_distance", roll_in="learned", at_once=7),
    }
    exact(output, "gpt2", method=methods[method], **settings)


def sharded_from(output: str) -> None:
    """A run that was not sharded cannot go on as one that is."""
    model = tiny_model("gpt2", dropout=0.3)  # as in `resumable`
    found = trainer(output, model, fsdp=True, per_device_train_batch_size=4)
    message = "parameters were not sharded when it was written; continue in the same way"
    with pytest.raises(CheckpointError, match=message):
        found.train(resume_from_checkpoint=True)


def example(name: str, given: list[str], variables: dict[str, str]) -> None:
    """A script of examples/, with variables that a launcher sets."""
    os.environ |= variables
    sys.path.insert(0, str(ROOT / "examples"))
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"](given)
