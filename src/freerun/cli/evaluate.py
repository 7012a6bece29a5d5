"""`freerun evaluate`: how good what a trained model writes is."""

from __future__ import annotations

import json as json_module
from dataclasses import dataclass
from math import exp

from freerun.cli.decoding import check_decodable
from freerun.cli.examples import Split, check_folder, examples_of
from freerun.cli.figures import counts, figures
from freerun.cli.options import Options
from freerun.data.files import write_text
from freerun.evaluation import Decoding, evaluate, teacher_forced_loss
from freerun.settings import to_dict
from freerun.training import load_policy
from freerun.training.checks import check_lengths
from freerun.training.processes import limit_threads

SUMMARY = "Measure how good a trained model's outputs are when it runs freely."
USAGE = "CHECKPOINT [--split {test,dev}] [--data PATH] [--beam N] [--sample] [--json FILE]"


@dataclass(frozen=True)
class Evaluate:
    """The options of `freerun evaluate` itself.

    Args:
        checkpoint: the folder of a trained model.
        split: which part of the task's data to evaluate on, `test` or `dev`; left out, test.
        data: a file of the task's format to evaluate on, all of it; with --split, where the task's
            data is now.
        batch_size: examples decoded together.
        json: a file to write the figures to.
    """

    checkpoint: str
    split: Split | None = None
    data: str | None = None
    batch_size: int = 256
    json: str | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")


def run(words: list[str]) -> None:
    """Run the command."""
    options = Options("freerun evaluate", USAGE, SUMMARY)
    options.add(Evaluate, "options", positional=["checkpoint"])
    options.add(Decoding, "decoding")
    options.parse(words)
    own = options.build(Evaluate, "evaluate")
    decoding = options.build(Decoding, "decoding")
    check_folder("--json", own.json)
    limit_threads(None)
    policy, codec = load_policy(own.checkpoint)
    task, examples, name = examples_of(own.checkpoint, codec, own.split, own.data)
    check_lengths(policy, examples, name)
    check_decodable(policy, examples, decoding)
    found = evaluate(policy, task, codec, examples, decoding=decoding, batch_size=own.batch_size)
    loss = teacher_forced_loss(policy, examples, batch_size=own.batch_size)
    print(f"{task.name}, {name}, {len(examples):,} examples, free-running, {decoding.how}:")
    print(figures(found.metrics))
    if found.backspaces is not None:
        print(*counts(found.backspaces), sep="\n")
    signatures = task.signatures()
    if signatures:
        print(*signatures.values(), sep="\n")
    forced = f"log loss {loss:.4f} a token, perplexity {exp(loss):.2f}"
    print(f"teacher-forced, which is not how it runs: {forced}")
    if own.json is not None:
        contents = {
            "task": task.name,
            "checkpoint": own.checkpoint,
            "examples_of": name,
            "examples": len(examples),
            "decoding": to_dict(decoding),
            "metrics": found.metrics,
            "backspaces": to_dict(found.backspaces) or None,
            "signatures": signatures,
            "teacher_forced_loss": loss,
            "teacher_forced_perplexity": exp(loss),
            "error_by_position": found.error_by_position,
            "count_by_position": found.count_by_position,
        }
        write_text(own.json, json_module.dumps(contents, indent=1, ensure_ascii=False) + "\n")
