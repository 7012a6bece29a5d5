"""The progress of training, as a bar, as lines, or as a report to another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        completed: the updates done, or with a budget the seconds of training.
        total: what `completed` will be at the end.
        done: the updates, and with a budget the seconds, as text.
        speed: updates per second; None if there have been too few.
        figures: the last loss, and the last free-running error on dev, as text.
    """

    completed: float
    total: float
    done: str
    speed: float | None
    figures: str

    @property
    def columns(self) -> dict[str, Any]:
        """The values for a bar with `list_columns`."""
        return {
            "completed": int(self.completed),
            "total": self.total,
            "done": self.done,
            "speed": self.speed,
            "figures": self.figures,
        }

    def __str__(self) -> str:
        """Return the status as one line."""
        speed = self.speed and f"{self.speed:.1f}/s"
        return "  ".join(part for part in (self.done, speed, self.figures) if part)


def list_columns() -> list[ProgressColumn]:
    """Return the columns of a bar."""
    return [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[done]}"),
        _Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    ]


class _Speed(ProgressColumn):
    """Updates per second."""

    def render(self, task: Task) -> Text:
        speed = task.fields.get("speed")
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


class ProgressReporter(TrainerCallback):
    """Reports the status of training, a few times a second at most and after every evaluation.

    Args:
        meter: the meter of the time of training, with the budget if there is one.
        report: is called with the status, in the first process only.
    """

    every = 0.2
    """The seconds between two reports."""

    def __init__(self, meter: Meter, report: Callable[[Status], object]) -> None:
        self.meter = meter
        self.report = report
        self._total = 0.0
        self._loss = self._error = ""
        self._shown = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read the log; a resumed run starts where it was interrupted."""
        self._total = float(self.meter.budget or state.max_steps)
        self._shown = time.monotonic()
        for entry in state.log_history:
            self._read(args, entry)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report if the last time was long ago."""
        if time.monotonic() - self._shown > self.every:
            self._report(state)

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
        """Report the new error, unless training has not begun."""
        if self._total:
            self._report(state)

    def stop(self) -> None:
        """Release what was needed to report."""

    def _read(self, args: TrainingArguments, logs: dict[str, Any]) -> None:
        if "loss" in logs:
            self._loss = f"loss {logs['loss']:.4f}"
        metric = args.metric_for_best_model
        if metric is not None and f"eval_{metric}" in logs:
            self._error = f"dev {metric} {logs[f'eval_{metric}']:.4f}"

    def _report(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            self._shown = time.monotonic()
            self.report(self._status(state))

    def _status(self, state: TrainerState) -> Status:
        meter = self.meter
        completed, done = float(state.global_step), f"{state.global_step}/{state.max_steps}"
        if meter.budget is not None:
            completed = meter.seconds
            done = f"{state.global_step} ({meter.seconds:.0f}/{self._total:g} s)"
        speed = 1 / meter.seconds_per_update if meter.timed_updates else None
        figures = "  ".join(filter(None, (self._loss, self._error)))
        return Status(completed, self._total, done, speed, figures)


class ProgressBar(ProgressReporter):
    """A bar with the loss, the last free-running error on dev, the speed and the time left.

    If the output is not a terminal, a plain line is written from time to time and after every
    evaluation. Only the first process writes.

    Args:
        meter: the meter of the time of training, with the budget if there is one.
        console: the console to write to; by default standard error.
    """

    def __init__(self, meter: Meter, console: rich.console.Console | None = None) -> None:
        super().__init__(meter, self._show)
        self.console = console or Console(stderr=True)
        self.every = 0.1 if self.console.is_terminal else PLAIN_EVERY
        self._bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the bar; a resumed run starts where it was interrupted."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.console.is_terminal and state.is_world_process_zero:
            self._bar = Progress(*list_columns(), console=self.console, transient=True)
            self._bar.add_task("training", **self._status(state).columns)
            self._bar.start()

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

    def _show(self, status: Status) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], **status.columns)
        else:
            self.console.print(str(status), highlight=False, markup=False)
