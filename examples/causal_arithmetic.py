"""Train a causal model to answer arithmetic questions, by scheduled sampling in two passes.

    python examples/causal_arithmetic.py
    python examples/causal_arithmetic.py --data PATH --updates 5000 --output runs/arithmetic

PATH is a file of alternating lines of questions and answers, as in the DeepMind mathematics
dataset, or a folder of such files; by default questions are generated. To run in two processes,
with the whole model in each or with sharded parameters:

    accelerate launch --config_file examples/accelerate/ddp.yaml examples/causal_arithmetic.py
    accelerate launch --config_file examples/accelerate/fsdp2.yaml examples/causal_arithmetic.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from tiny import causal_model, character_tokenizer
from transformers import TrainingArguments

from freerun.methods import ScheduledSampling
from freerun.tasks import Arithmetic, load_data
from freerun.training import Trainer


def main(given: Sequence[str] | None = None) -> dict[str, float]:
    """Train and evaluate; return the metrics on dev."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a file or a folder of questions and answers")
    parser.add_argument("--output", default="runs/causal_arithmetic")
    parser.add_argument("--updates", type=int, default=200)
    options = parser.parse_args(given)

    task = Arithmetic(data=options.data, train_size=5000, dev_size=200)
    sides = ("source", "target")
    texts = [row[side] for part in task.rows().values() for row in part for side in sides]
    tokenizer = character_tokenizer([*texts, "\n"])
    data = load_data(task, tokenizer=tokenizer)
    trainer = Trainer(
        model=causal_model(tokenizer),
        method=ScheduledSampling(schedule="linear", passes=2),
        args=TrainingArguments(
            options.output,
            max_steps=options.updates,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=200,
            learning_rate=2e-3,
            eval_strategy="steps",
            eval_steps=max(options.updates // 2, 1),
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
        ),
        processing_class=data.codec,
        train_dataset=data.train,
        eval_dataset=data.dev,
        task=task,
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    if trainer.is_world_process_zero():
        print(metrics)
    return metrics


if __name__ == "__main__":
    main()
