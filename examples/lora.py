"""Train LoRA adapters of a causal model by differentiable scheduled sampling, and merge them.

    python examples/lora.py
    python examples/lora.py --model NAME_OR_PATH

NAME_OR_PATH is a causal model with a tokenizer, from a folder or the Hugging Face hub; by default
a tiny one is created. Only adapters are trained and saved; the model does not change.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig
from tiny import causal_model, character_tokenizer
from transformers import TrainingArguments

from freerun.methods import DifferentiableScheduledSampling
from freerun.training import Trainer, load_policy

ROWS = [
    {"prompt": f"backwards: {word} =", "completion": f" {word[::-1]}"}
    for word in ("roll", "in", "out", "learn", "cost", "cell", "token", "policy", "search", "free")
]


def main(given: Sequence[str] | None = None) -> dict[str, float]:
    """Train, evaluate and merge; return the metrics on the training data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="the folder or id of a causal model")
    parser.add_argument("--output", default="runs/lora")
    parser.add_argument("--updates", type=int, default=50)
    options = parser.parse_args(given)

    base = options.model
    if base is None:
        base = str(Path(options.output, "base"))
        tokenizer = character_tokenizer(text for row in ROWS for text in row.values())
        causal_model(tokenizer).save_pretrained(base)
        tokenizer.save_pretrained(base)

    adapters = str(Path(options.output, "adapters"))
    trainer = Trainer(
        model=base,
        method=DifferentiableScheduledSampling(passes=2),
        args=TrainingArguments(
            adapters,
            max_steps=options.updates,
            per_device_train_batch_size=10,
            learning_rate=1e-2,
            activation_checkpointing=True,
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=ROWS,
        eval_dataset=ROWS,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear"),
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model(adapters)
    print(metrics)

    policy, codec = load_policy(adapters)
    merged = policy.model.merge_and_unload()
    merged.save_pretrained(Path(options.output, "merged"))
    codec.tokenizer.save_pretrained(Path(options.output, "merged"))
    return metrics


if __name__ == "__main__":
    main()
