"""Train an encoder-decoder to translate, from rows of source and target, by SEARNN.

    python examples/translation.py
    python examples/translation.py --data PAIRS.tsv --updates 2000

PAIRS.tsv has one pair per line, with a tab between the sentence and its translation; by default the
pairs are a few numbers in German and English words. SEARNN tries characters at cells of the model's
output, completes each sentence, and learns from the costs of the results.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from datasets import Dataset
from tiny import character_tokenizer, seq2seq_model
from transformers import TrainingArguments

from freerun.methods import SEARNN
from freerun.methods.searnn import Candidates, MixedRollIn, PolicyTokens
from freerun.training import Trainer

ONES = {"zwei": "two", "drei": "three", "vier": "four", "sechs": "six", "acht": "eight"}
TENS = {"zwanzig": "twenty", "dreißig": "thirty", "vierzig": "forty", "sechzig": "sixty"}


def numbers() -> list[dict[str, str]]:
    """Return numbers in German words, where the ones come first, and in English words."""
    return [
        {"source": f"{ones}und{tens}", "target": f"{TENS[tens]}-{ONES[ones]}"}
        for tens, ones in product(TENS, ONES)
    ]


def pairs(path: str) -> list[dict[str, str]]:
    """Return the pairs of a file, one per line.

    Raises:
        ValueError: if a line has not two columns.
    """
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        source, tab, target = line.partition("\t")
        if not tab or "\t" in target:
            raise ValueError(f"{path}, line {number}: it must be a source, a tab, and a target")
        found.append({"source": source, "target": target})
    return found


def main(given: Sequence[str] | None = None) -> dict[str, float]:
    """Train and evaluate; return the metrics on the held-out pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a file with one pair per line, separated by a tab")
    parser.add_argument("--output", default="runs/translation_example")
    parser.add_argument("--updates", type=int, default=60)
    options = parser.parse_args(given)

    rows = pairs(options.data) if options.data else numbers()
    splits = Dataset.from_list(rows).train_test_split(test_size=0.2, seed=0)
    tokenizer = character_tokenizer(text for row in rows for text in row.values())
    trainer = Trainer(
        model=seq2seq_model(tokenizer),
        method=SEARNN(
            cost="edit_distance",
            roll_in=MixedRollIn(),
            candidates=Candidates(cells=3, tokens=PolicyTokens(4)),
            warm_up=0.5,
        ),
        args=TrainingArguments(
            options.output,
            max_steps=options.updates,
            per_device_train_batch_size=16,
            learning_rate=3e-3,
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
        ),
        processing_class=tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["test"],
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    if trainer.is_world_process_zero():
        print(metrics)
    return metrics


if __name__ == "__main__":
    main()
