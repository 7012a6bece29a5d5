"""The progress of several runs side by side, in one view."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

import rich.console
from rich.progress import Progress, TaskID
from rich.text import Text

from freerun.study.work import Failure
from freerun.training.progress import PLAIN_EVERY, Status, list_columns


class RunsView:
    """Shows a bar for each run in progress and one for all; plain lines if there is no terminal.

    Args:
        console: the console to write to.
        names: the names of all runs, by number.
    """

    def __init__(self, console: rich.console.Console, names: Mapping[int, str]) -> None:
        self.console, self.names = console, names
        self._bars: Progress | None = None
        self._tasks: dict[int, TaskID] = {}
        self._shown: dict[int, float] = {}
        self._ended = 0
        if console.is_terminal:
            self._bars = Progress(*list_columns(), console=console, transient=True)
            self._all = self._bars.add_task(
                "all runs", total=len(names), done=f"0/{len(names)}", speed=None, figures=""
            )

    def __enter__(self) -> RunsView:
        """Show the bars."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bars."""
        if self._bars is not None:
            self._bars.stop()

    def start(self, number: int) -> None:
        """Show that a run starts."""
        self._shown[number] = time.monotonic()
        if self._bars is not None:
            self._tasks[number] = self._bars.add_task(
                self.names[number], total=None, done="starting", speed=None, figures=""
            )

    def update(self, number: int, status: Status) -> None:
        """Show the status of a run."""
        if self._bars is not None:
            self._bars.update(self._tasks[number], **status.columns)
        elif time.monotonic() - self._shown[number] > PLAIN_EVERY:
            self._shown[number] = time.monotonic()
            self.console.print(f"{self.names[number]}: {status}", markup=False)

    def finish(self, number: int, summary: str) -> None:
        """Show the results of a run."""
        self._end(number, Text(f"{self.names[number]}: {summary}"))

    def fail(self, number: int, failure: Failure) -> None:
        """Show why a run failed, even if nothing else is shown."""
        if failure.traceback:
            print(failure.traceback, file=sys.stderr, end="", flush=True)
        self._end(number, Text(f"{self.names[number]} failed: {failure.message}", style="red"))

    def _end(self, number: int, line: Text) -> None:
        self._ended += 1
        if self._bars is not None:
            self._bars.remove_task(self._tasks.pop(number))
            done = f"{self._ended}/{len(self.names)}"
            self._bars.update(self._all, completed=self._ended, done=done)
        self.console.print(line, soft_wrap=True)
