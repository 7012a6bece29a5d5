"""`freerun tasks` and `freerun methods`: what there is, in brief or in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from docstring_parser import parse
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from freerun.cli.options import MAX_WIDTH, SettingsCommand, UserSettings, strip_markup
from freerun.data import Task
from freerun.methods import METHODS
from freerun.report.labels import label
from freerun.settings import (
    MISSING,
    Setting,
    SettingError,
    describe_type,
    did_you_mean,
    format_value,
    list_settings,
)
from freerun.tasks import TASKS

TASK_NOTES = """\
In a command, the data of a task are given as --data, other settings as --task.NAME:

\b
  freerun train spelling --data book.txt --task.noise 0.5 --output runs/spelling
"""
METHOD_NOTES = """\
On the command line, settings follow a method after a colon, separated by commas:

\b
  freerun train digits --method scheduled_sampling:schedule=linear,k=0.9 --output runs/ss
"""


@dataclass(frozen=True)
class TasksOptions:
    """The options of `freerun tasks`.

    Args:
        task: the task to describe in full; by default all are listed.
    """

    task: str | None = None


@dataclass(frozen=True)
class MethodsOptions:
    """The options of `freerun methods`.

    Args:
        method: the method to describe in full; by default all are listed.
    """

    method: str | None = None


class TasksCommand(SettingsCommand):
    """List the tasks; with TASK, describe one and its settings."""

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(TasksOptions, positional=["task"])

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        name = settings.build(TasksOptions, "tasks").task
        _print_listing("task", TASKS, {n: _task_lines(task) for n, task in TASKS.items()}, name)


class MethodsCommand(SettingsCommand):
    """List the training methods; with METHOD, describe one and its settings."""

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(MethodsOptions, positional=["method"])

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        name = settings.build(MethodsOptions, "methods").method
        lines = {name: [method.summary, method.paper] for name, method in METHODS.items()}
        _print_listing("method", METHODS, lines, name)


COMMANDS = {
    "tasks": lambda: TasksCommand("tasks", epilog=TASK_NOTES),
    "methods": lambda: MethodsCommand("methods", epilog=METHOD_NOTES),
}


def _task_lines(task: type[Task]) -> list[str]:
    """Return what a task is, what it needs, and what it reports."""
    data = list_settings(task).get("data")
    needs = "nothing: it comes with its data" if data is None else data.summary.rstrip(".")
    better = "higher is better" if task.greater_is_better else "lower is better"
    return [task.summary, f"needs {needs}", f"metric: {label(task.metric)} ({better})"]


def _print_listing(
    noun: str, known: Mapping[str, type], lines: Mapping[str, list[str]], chosen: str | None
) -> None:
    """Print all classes of a registry in brief, or one of them in full.

    Args:
        noun: What they are.
        known: The classes by name.
        lines: What to say about each.
        chosen: The one to describe in full.

    Raises:
        SettingError: If it is unknown.
    """
    console = Console(highlight=False)
    console.width = min(console.width, MAX_WIDTH)
    if chosen is None:
        for name, cls in known.items():
            console.print(_brief(name, lines[name], cls), "")
        console.print(f"More about one of them:  freerun {noun}s {noun.upper()}")
    elif chosen in known:
        console.print(_full(chosen, lines[chosen], known[chosen]))
    else:
        raise SettingError(f"unknown {noun} {chosen!r}{did_you_mean(chosen, known)}")


def _brief(name: str, lines: list[str], cls: type) -> Group:
    """Return a name, lines that say what it is, and its settings with their defaults."""
    settings = ", ".join(_assignment(s) for s in list_settings(cls).values() if not s.choice)
    body = Table.grid(padding=(0, 0, 0, 2))
    for line in lines:
        body.add_row(Text(strip_markup(line)))
    body.add_row(Text(f"settings: {settings or 'none'}", style="dim"))
    indented = Table.grid()
    indented.add_row("  ", body)
    return Group(Text(name, style="bold"), indented)


def _full(name: str, lines: list[str], cls: type) -> Group:
    """Return all that the docstring of a class says, and a table of its settings."""
    described = parse(cls.__doc__ or "")
    text = "\n\n".join(filter(None, (described.short_description, described.long_description)))
    paragraphs = [strip_markup(" ".join(part.split())) for part in text.split("\n\n")]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("setting", "default", "description"):
        table.add_column(heading)
    for setting in list_settings(cls).values():
        default = "required" if setting.default is MISSING else format_value(setting.default)
        condition = f"; with {setting.condition}" if setting.condition else ""
        kind = f"{describe_type(setting.kind)}{condition}"
        summary = f"{strip_markup(setting.summary).rstrip('.')} ({kind})"
        table.add_row(setting.name, default, summary)
    top = [Text(strip_markup(line)) for line in lines]
    rest = [Text(line) for line in "\n\n".join(paragraphs).split("\n")]
    return Group(Text(name, style="bold"), *top, Text(""), *rest, "", table)


def _assignment(setting: Setting) -> str:
    if setting.default is MISSING:
        return f"{setting.name} (required)"
    return f"{setting.name}={format_value(setting.default)}"
