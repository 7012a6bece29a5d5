"""Whether memory stays flat during training, for each method.

Each method trains a tiny recurrent model in a process of its own, by the loop that `freerun train`
uses. The resident memory is read 200 times; a line is fitted to what is read after the first fifth,
when caches and the replay buffer are full. Memory is flat if its slope is below 0.1 MB per 1,000
updates; the allocator alone moves it by some hundredths in 10,000 updates, and by more in fewer.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from typing import Any

import psutil
import timing
import torch
from transformers import TrainerCallback

from freerun.models.settings import RecurrentSettings
from freerun.study.specs import parse_method
from freerun.tasks import Digits, load_data
from freerun.training import TrainingSettings
from freerun.training.resolve import resolve
from freerun.training.trainer import RunTrainer

METHODS = {
    "mle": "mle",
    "scheduled_sampling": "scheduled_sampling",
    "differentiable_scheduled_sampling": "differentiable_scheduled_sampling",
    "searnn": "searnn:cells=2,token_choice=uniform,tokens=3",
    "behavior_cloning": "behavior_cloning:noise=0.05",
    "sequence_match": "sequence_match:noise=0.05,warm_up=0.02,anneal=0.02",
    "ocd": "ocd",
    "mrt": "mrt:warm_up=0.02,samples=3",
    "reinforce": "reinforce:warm_up=0.02,baseline=mean,samples=1",
    "mixer": "mixer:warm_up=0.02,anneal=0.02",
    "raml": "raml",
    "unlikelihood": "unlikelihood",
    "unlikelihood, sequence": "unlikelihood:level=sequence",
}
READINGS = 200
FLAT = 0.1
"""Megabytes per 1,000 updates."""


class Watch(TrainerCallback):
    """Reads the resident memory of this process, in megabytes, as training proceeds."""

    def __init__(self, updates: int) -> None:
        self.every = max(1, updates // READINGS)
        self.readings: list[tuple[int, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read after every few updates."""
        if state.global_step % self.every == 0:
            self.readings.append((state.global_step, psutil.Process().memory_info().rss / 2**20))


def measure(spec: str, updates: int) -> tuple[float, float]:
    """Train, and return the slope in MB per 1,000 updates, and the memory at the end in MB."""
    torch.set_num_threads(1)
    task = Digits(train_size=200, dev_size=20, test_size=20)
    model = RecurrentSettings(hidden_size=8, embedding_size=4, attention="general")
    run = resolve(model, load_data(task), parse_method(spec), task=task)
    training = TrainingSettings(updates=updates, batch_size=4, evaluate_every=updates)
    watch = Watch(updates)
    with tempfile.TemporaryDirectory() as folder:
        RunTrainer(run, training.arguments(folder, task, quiet=True), callbacks=[watch]).train()
    steps, memory = zip(*watch.readings[len(watch.readings) // 5 :], strict=True)
    return 1000 * statistics.linear_regression(steps, memory).slope, memory[-1]


def main() -> None:
    """Measure each method, and print whether its memory is flat."""
    options = timing.parser(__doc__.partition("\n")[0], rounds=1)
    options.add_argument("--updates", type=int, default=10_000, help="updates (default 10,000)")
    options.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    given = timing.parse(options)
    updates = min(given.updates, 400) if given.quick else given.updates
    context = multiprocessing.get_context("spawn")
    figures: dict[str, float | str] = {"updates": updates}
    for name in given.methods:
        with context.Pool(1) as pool:
            slope, end = pool.apply(measure, (METHODS[name], updates))
        figures[f"{name}, MB per 1,000 updates"] = round(slope, 3)
        figures[f"{name}, MB at the end"] = round(end, 1)
        flat = "flat" if slope < FLAT else "grows"
        print(f"{name:34} {slope:+7.3f} MB per 1,000 updates: {flat}", flush=True)
    timing.write(figures, given.json)


if __name__ == "__main__":
    main()
