"""`freerun evaluate`: how good what a trained model writes is."""

from __future__ import annotations

import json as json_module
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from freerun.cli.checkpoint import task_of
from freerun.cli.figures import figures
from freerun.cli.options import Options
from freerun.evaluate import Decoding, evaluate, teacher_forced_loss
from freerun.settings import SettingError, values_of
from freerun.tasks import Codec, Examples, Task
from freerun.tasks.files import write_text
from freerun.trainer import load_policy
from freerun.trainer.threads import limit_threads

SUMMARY = "Measure how good a trained model's outputs are when it runs freely."
USAGE = "CHECKPOINT [--split {test,dev}] [--data PATH] [--beam N] [--json FILE]"
TRAINED_ON = {"data": "a part of it; add --split test", "train": "it; name another file"}
"""Settings of tasks that name what a model was trained on, and what to do instead."""


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
    split: Literal["test", "dev"] | None = None
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
    if own.json is not None and not Path(own.json).parent.is_dir():
        raise SettingError(f"--json is {own.json!r}; there is no folder {Path(own.json).parent}")
    limit_threads(None)
    policy, codec = load_policy(own.checkpoint)
    task = task_of(own.checkpoint, own.data if own.split else None)
    examples, name = _examples(own, task, codec)
    found = evaluate(policy, task, codec, examples, decoding=decoding, batch_size=own.batch_size)
    loss = teacher_forced_loss(policy, examples, batch_size=own.batch_size)
    how = "greedy" if decoding.beam == 1 else f"beam {decoding.beam}"
    print(f"{task.name}, {name}, {len(examples):,} examples, free-running, {how}:")
    print(figures(found.metrics))
    signatures = task.signatures()
    if signatures:
        print(*signatures.values(), sep="\n")
    print(f"teacher-forced, which is not how it runs: log loss {loss:.4f} a token")
    if own.json is not None:
        contents = {
            "task": task.name,
            "checkpoint": own.checkpoint,
            "examples_of": name,
            "examples": len(examples),
            "beam": decoding.beam,
            "length_penalty": decoding.length_penalty,
            "metrics": found.metrics,
            "signatures": signatures,
            "teacher_forced_loss": loss,
            "error_by_position": found.error_by_position,
            "count_by_position": found.count_by_position,
        }
        write_text(own.json, json_module.dumps(contents, indent=1, ensure_ascii=False) + "\n")


def _examples(own: Evaluate, task: Task, codec: Codec) -> tuple[Examples, str]:
    """What to evaluate on, and what to call it."""
    if own.data is not None and own.split is None:
        for name, rest in TRAINED_ON.items():
            known = values_of(task).get(name)
            if known and _same(own.data, known):
                raise SettingError(f"{own.data}: the model was trained on {rest}")
        return codec.evaluation(own.data), own.data
    data = task.load()
    split = own.split or "test"
    return (data.test if split == "test" else data.dev), split


def _same(one: str, other: str) -> bool:
    """Whether two paths lead to the same file."""
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
