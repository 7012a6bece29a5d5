"""`freerun tasks`, `methods` and `metrics`: what there is, in brief or in full."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from docstring_parser import parse
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from freerun.cli.options import MAX_WIDTH, SettingsCommand, UserSettings, strip_markup
from freerun.methods import METHODS
from freerun.metrics import METRICS, Metric, find_metric
from freerun.settings import (
    MISSING,
    SettingError,
    describe_type,
    did_you_mean,
    format_value,
    list_settings,
)
from freerun.tasks import TASKS, find_task
from freerun.tasks.base import Task

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
METRIC_NOTES = """\
A task has metrics of its own; --metrics adds others that its outputs allow:

\b
  freerun evaluate runs/spelling --metrics exact_match chrf
"""


@dataclass(frozen=True)
class TasksOptions:
    """The options of `freerun tasks`.

    Args:
        task: the task to describe in full, by its name or the address of its class, such as
            my_task.py:MyTask; by default all are listed.
    """

    task: str | None = None


@dataclass(frozen=True)
class MethodsOptions:
    """The options of `freerun methods`.

    Args:
        method: the method to describe in full; by default all are listed.
    """

    method: str | None = None


@dataclass(frozen=True)
class MetricsOptions:
    """The options of `freerun metrics`.

    Args:
        metric: the metric to describe in full; by default all are listed.
    """

    metric: str | None = None


class TasksCommand(SettingsCommand):
    """List the tasks; with TASK, describe one and its settings."""

    notes = TASK_NOTES

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(TasksOptions, positional=["task"])

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        name = settings.build(TasksOptions, "tasks").task
        if name is not None:
            task = find_task(name)
            _console().print(_full(name, _task_lines(task), task))
            return
        for each, task in TASKS.items():
            _console().print(
                _brief(each, _task_lines(task), _assignments(task, skip=["metrics"])), ""
            )
        print("More about one of them:  freerun tasks TASK")
        print("A task of your own:      freerun tasks my_task.py:MyTask, or package.module:MyTask")


class MethodsCommand(SettingsCommand):
    """List the training methods; with METHOD, describe one and its settings."""

    notes = METHOD_NOTES

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(MethodsOptions, positional=["method"])

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        name = settings.build(MethodsOptions, "methods").method
        if name is not None:
            if name not in METHODS:
                raise SettingError(f"unknown method {name!r}{did_you_mean(name, METHODS)}")
            method = METHODS[name]
            _console().print(_full(name, [method.summary, method.paper], method))
            return
        for each, method in METHODS.items():
            lines = [method.summary, method.paper]
            _console().print(_brief(each, lines, _assignments(method)), "")
        print("More about one of them:  freerun methods METHOD")


class MetricsCommand(SettingsCommand):
    """List the metrics; with METRIC, describe one."""

    notes = METRIC_NOTES

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(MetricsOptions, positional=["metric"])

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        name = settings.build(MetricsOptions, "metrics").metric
        console = _console()
        if name is not None:
            metric = find_metric(name)
            console.print(Text(name, style="bold"))
            console.print(strip_markup(inspect.getdoc(metric.function) or ""), markup=False)
            return
        for each, metric in METRICS.items():
            options = ", ".join(_assignment(*item) for item in metric.known_settings.items())
            console.print(_brief(each, [metric.summary, _direction(metric)], options), "")
        print("More about one of them:  freerun metrics METRIC")
        print("A metric of your own:    package.module:function, or my_metrics.py:function")


def _task_lines(task: type[Task]) -> list[str]:
    """Return what a task is, what it needs, and what it reports."""
    data = list_settings(task).get("data")
    needs = "nothing: it comes with its data" if data is None else data.summary.rstrip(".")
    headline, *others = task.metrics
    metrics = [f"{headline} ({_direction(find_metric(headline))})", *others]
    return [task.summary, f"needs {needs}", f"metrics: {', '.join(metrics)}"]


def _console() -> Console:
    """Return a console as wide as the terminal, up to the width of the help."""
    console = Console(highlight=False)
    console.width = min(console.width, MAX_WIDTH)
    return console


def _brief(name: str, lines: list[str], settings: str) -> Group:
    """Return a name, lines that say what it is, and its settings with their defaults."""
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


def _assignments(cls: type, skip: Collection[str] = ()) -> str:
    """Return the settings of a class with their defaults, without those of options."""
    settings = [s for s in list_settings(cls).values() if not s.choice and s.name not in skip]
    return ", ".join(_assignment(setting.name, setting.default) for setting in settings)


def _assignment(name: str, default: Any) -> str:
    return f"{name} (required)" if default is MISSING else f"{name}={format_value(default)}"


def _direction(metric: Metric) -> str:
    """Return whether higher or lower values of a metric are better."""
    if metric.greater_is_better is None:
        return "neither higher nor lower is better; compare with real text"
    return "higher is better" if metric.greater_is_better else "lower is better"
