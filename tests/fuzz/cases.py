"""What a case is, and what is known while it is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

Words = list[str]
MODEL = ["--model.hidden_size", "4", "--model.embedding_size", "4"]
TRAINING = [
    *("--training.updates", "1", "--training.evaluate_every", "1"),
    *("--training.batch_size", "4", "--training.threads", "1", "--quiet"),
]


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        status: its exit status; None where an exception left `main`.
        output: what it wrote to the standard output stream.
        errors: what it wrote to the standard error stream.
        rows: the rows of each task that it read data for.
    """

    status: int | None
    output: str
    errors: str
    rows: Sequence[Sequence[dict[str, Any]]] = ()


@dataclass(frozen=True)
class Case:
    """Commands, and what must come of them.

    Attributes:
        change: what was done to the input.
        commands: the words of each, behind `freerun`; each runs where the one before succeeded.
        find_change: returns what the commands changed in silence, if all of them succeeded.
        good: whether nothing is wrong, so that the commands must succeed.
        steps: for each command, what to call before it.
    """

    change: str
    commands: Sequence[Words]
    find_change: Callable[[list[Outcome]], str | None] = lambda outcomes: None
    good: bool = False
    steps: Sequence[Callable[[], object]] = ()


@dataclass(frozen=True)
class Place:
    """Where a case is made.

    Attributes:
        random: what all choices are drawn from.
        folder: an empty folder, which is the current one.
        bases: the folder of what is damaged: runs, models and data that are good.
        expected: what the commands on the runs give where nothing is damaged, by their names.
    """

    random: Random
    folder: Path
    bases: Path
    expected: dict[str, Any]


Maker = Callable[[Place], Case]


def find_fault(case: Case, outcomes: list[Outcome]) -> tuple[str, str]:
    """Return the kind of outcome of a case, and what is wrong with it, if anything is.

    Kinds are `accepted` and `refused`, which are right, and `traceback`, `status`, `message`,
    `refused though good` and `silent change`, which are not.
    """
    for outcome in outcomes:
        if outcome.status is None or "Traceback (most recent call last)" in outcome.errors:
            return "traceback", summarize_traceback(outcome.errors)
        if outcome.status not in (0, 2):
            return "status", f"exit status {outcome.status}: {outcome.errors[-200:]}"
    last = outcomes[-1]
    if last.status == 2:
        line = last.errors.strip().rpartition("\n")[2]
        if not re.search(r"^(freerun[ a-z]*: |Usage: freerun)", last.errors, re.MULTILINE):
            return "message", f"no message: {last.errors[-200:]!r}"
        return ("refused though good", line) if case.good else ("refused", line)
    changed = case.find_change(outcomes)
    return ("accepted", "") if changed is None else ("silent change", changed)


def summarize_traceback(errors: str) -> str:
    """Return the exception of a traceback, and the innermost place in freerun."""
    frames = re.findall(r'freerun/([\w/]+\.py)", line (\d+), in (\S+)', errors)
    where = ":".join(frames[-1]) if frames else "?"
    last = errors.strip().rpartition("\n")[2]
    return f"{where}: {last:.160}"
