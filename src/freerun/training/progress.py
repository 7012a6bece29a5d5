"""The progress of training, as a bar or as lines."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from freerun.console import Console
from freerun.training.callbacks import Meter

PLAIN_EVERY = 30.0
"""The seconds between two lines, if the output is not a terminal."""


def show_notes(notes: Iterable[str], quiet: bool = False) -> None:
    """Print the notes of a task on its data to standard error."""
    console = Console(stderr=True, quiet=quiet)
    for note in notes:
        console.print(note, style="dim", markup=False)


class _Speed(ProgressColumn):
    """Updates per second."""

    def render(self, task: Task) -> Text:
        speed = task.fields.get("speed")
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


class ProgressBar(TrainerCallback):
    """A bar with the loss, the last free-running error on dev, the speed and the time left.

    If the output is not a terminal, a plain line is written from time to time and after every
    evaluation. Only the first process writes.

    Args:
        meter: the meter of the time of training, with the budget if there is one.
        console: the console to write to; by default standard error.
    """

    def __init__(self, meter: Meter, console: rich.console.Console | None = None) -> None:
        self.meter = meter
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._total: float = 0
        self._loss = self._error = ""
        self._shown = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the bar; a resumed run starts where it was interrupted."""
        if not state.is_world_process_zero:
            return
        self._total = self.meter.budget or state.max_steps
        self._shown = time.monotonic()
        for entry in state.log_history:
            self._read(args, entry)
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[done]}"),
                _Speed(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
                transient=True,
            )
            completed, done = self._done(state)
            self._bar.add_task(
                "training", total=self._total, completed=int(completed), done=done, figures=""
            )
            self._bar.start()
            self._update(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the bar, at most a few times per second."""
        if not state.is_world_process_zero:
            return
        elapsed = time.monotonic() - self._shown
        if self._bar is not None and elapsed > 0.1:
            self._update(state)
        elif self._bar is None and elapsed > PLAIN_EVERY:
            self._line(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Store the figures."""
        self._read(args, logs or {})

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the new error."""
        if self._bar is not None:
            self._update(state)
        elif state.is_world_process_zero:
            self._line(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the bar."""
        self.stop()

    def stop(self) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _read(self, args: TrainingArguments, logs: dict[str, Any]) -> None:
        if "loss" in logs:
            self._loss = f"loss {logs['loss']:.4f}"
        metric = args.metric_for_best_model
        if metric is not None and f"eval_{metric}" in logs:
            self._error = f"dev {metric} {logs[f'eval_{metric}']:.4f}"

    def _figures(self) -> str:
        return "  ".join(filter(None, (self._loss, self._error)))

    def _done(self, state: TrainerState) -> tuple[float, str]:
        """Return the progress, in updates or seconds of the budget, as a number and as text."""
        if self.meter.budget is None:
            return float(state.global_step), f"{state.global_step}/{state.max_steps}"
        return (
            self.meter.seconds,
            f"{state.global_step} ({self.meter.seconds:.0f}/{self._total:g} s)",
        )

    def _speed(self) -> float | None:
        return 1 / self.meter.seconds_per_update if self.meter.timed_updates else None

    def _update(self, state: TrainerState) -> None:
        self._shown = time.monotonic()
        completed, done = self._done(state)
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                completed=completed,
                done=done,
                speed=self._speed(),
                figures=self._figures(),
            )

    def _line(self, state: TrainerState) -> None:
        self._shown = time.monotonic()
        speed = self._speed()
        parts = (self._done(state)[1], speed and f"{speed:.1f}/s", self._figures())
        self.console.print("  ".join(part for part in parts if part), highlight=False)
