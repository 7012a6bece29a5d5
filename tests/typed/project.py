"""A user's code, which `make lint` checks as strictly as a project of its own may."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from transformers import TrainingArguments

from freerun import (
    MLE,
    Method,
    ScheduledSampling,
    Trainer,
    TrainingSettings,
    compare,
    diagnose,
    evaluate,
    fit,
    load,
    load_policy,
)
from freerun.batch import Batch
from freerun.costs import edit_distance
from freerun.data import Row, Splits
from freerun.losses import log_loss
from freerun.methods.base import NO_MODULES, Clock, Modules, Outcome
from freerun.metrics import metric
from freerun.models.settings import RecurrentSettings
from freerun.policy import Policy
from freerun.tasks import Digits, Task


@metric(greater_is_better=False)
def length_error(outputs: list[str], references: list[str]) -> float:
    """Compute how far lengths are off."""
    return sum(abs(len(a) - len(b)) for a, b in zip(outputs, references, strict=True))


@dataclass(frozen=True, kw_only=True)
class Halved(Method):
    """Half of the log loss.

    Args:
        share: the factor.
    """

    name: ClassVar[str] = "halved"
    paper: ClassVar[str] = "none"
    summary: ClassVar[str] = "half of the log loss"

    share: float = 0.5

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the loss."""
        trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
        total: Tensor = log_loss(trace.logits(batch.mask), batch.target_tokens())
        return Outcome(total * self.share, batch.mask.sum(), {})


@dataclass(frozen=True)
class Copies(Task):
    """Words to be copied."""

    metrics: ClassVar[tuple[str, ...]] = ("exact_match",)

    def rows(self) -> Splits[Row]:
        """Return the words."""
        return Splits({"train": [{"source": "a", "target": "a"}]})


def tune(folder: Path, rows: list[dict[str, str]]) -> dict[str, float]:
    """Train a Hugging Face model, and evaluate it."""
    arguments = TrainingArguments(str(folder / "tuned"), max_steps=2)
    trainer = Trainer("tiny", "scheduled_sampling", arguments, train_dataset=rows)
    trainer.train()
    return trainer.evaluate(rows)


def run(folder: Path) -> float:
    """Train, evaluate, predict, diagnose and compare."""
    task = Digits(train_size=20)
    data = task.load()
    settings = TrainingSettings(updates=2)
    model = RecurrentSettings(hidden_size=8)
    done = fit(task, data, Halved(), model=model, training=settings, output=folder / "one")
    figures: dict[str, float] = evaluate(done.policy, task, data.codec, data.test).metrics
    policy, codec = load_policy(folder / "one")
    text: str = next(iter(load(folder / "one").predict(["a"]))).text
    diagnosis = diagnose(folder / "one")
    comparison = compare(task, {"mle": MLE(), "ss": ScheduledSampling()}, output=folder / "two")
    print(policy, codec, text, diagnosis, comparison.results, edit_distance)
    return figures["exact_match"] + torch.ones(()).item()
