"""`freerun tasks`, `methods` and `metrics`: listings, and full descriptions."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from docstring_parser import parse
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from freerun.cli.options import MAX_WIDTH, SettingsCommand, UserSettings, strip_markup
from freerun.console import Console
from freerun.methods import METHOD_GROUPS, find_method
from freerun.metrics import METRICS, Metric, find_metric
from freerun.settings import MISSING, describe_type, format_value, list_settings
from freerun.tasks import TASKS, find_task
from freerun.tasks.base import Task


@dataclass(frozen=True)
class ListingOptions:
    """The options of a listing.

    Args:
        name: the name to describe in full; by default all are listed.
    """

    name: str | None = None


class ListingCommand(SettingsCommand):
    """A command that lists objects with names, or describes one in full.

    Attributes:
        own: how users name their own, if they can.
    """

    own: ClassVar[str] = ""
    describes = True

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(ListingOptions, positional=["name"])

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        name = settings.build(ListingOptions, str(self.name)).name
        console = Console()
        console.width = min(console.width, MAX_WIDTH)
        if name is not None:
            console.print(self.describe(name))
            return
        for entry in self.list_all():
            console.print(entry, "")
        print(f"More about one of them:  freerun {self.name} NAME")
        if self.own:
            print(f"Your own:                {self.own}")

    @abstractmethod
    def list_all(self) -> Iterator[Group]:
        """Yield all in brief."""

    @abstractmethod
    def describe(self, name: str) -> Group:
        """Describe one in full.

        Raises:
            SettingError: if there is none of this name.
        """


class TasksCommand(ListingCommand):
    """List the tasks; with NAME, describe one and its settings."""

    own = "freerun train my_task.py:MyTask …, or package.module:MyTask"
    notes = """\
    In a command, the data of a task are given as --data, other settings as --task.NAME:

    \b
      freerun train spelling --data book.txt --task.noise 0.5 --output runs/spelling
    """

    def list_all(self) -> Iterator[Group]:
        """Yield all tasks in brief."""
        for name, task in TASKS.items():
            yield _brief(name, _task_lines(task), _assignments(task, skip=["metrics", "headline"]))

    def describe(self, name: str) -> Group:
        """Describe a task."""
        task = find_task(name)
        return _full(name, _task_lines(task), task)


class MethodsCommand(ListingCommand):
    """List the training methods; with NAME, describe one and its settings."""

    own = "freerun train … --method my_method.py:MyMethod, or package.module:MyMethod"
    notes = """\
    On the command line, settings follow a method after a colon, separated by commas:

    \b
      freerun train digits --method scheduled_sampling:schedule=linear,k=0.9 --output runs/ss
    """

    def list_all(self) -> Iterator[Group]:
        """Yield all methods in brief."""
        for source, methods in METHOD_GROUPS.items():
            yield Group(Text(f"Learning from {source}", style="bold underline"))
            for method in methods:
                lines = [method.summary, method.paper]
                yield _brief(method.name, lines, _assignments(method))

    def describe(self, name: str) -> Group:
        """Describe a method."""
        method = find_method(name)
        return _full(name, [method.summary, method.paper], method)


class MetricsCommand(ListingCommand):
    """List the metrics; with NAME, describe one."""

    own = "freerun evaluate … --metrics my_metrics.py:my_metric, or package.module:my_metric"
    notes = """\
    A task has metrics of its own; --metrics adds others that its outputs allow:

    \b
      freerun evaluate runs/spelling --metrics exact_match chrf
    """

    def list_all(self) -> Iterator[Group]:
        """Yield all metrics in brief."""
        for name, metric in METRICS.items():
            settings = ", ".join(_assignment(*item) for item in metric.known_settings.items())
            yield _brief(name, [metric.summary, _direction(metric)], settings)

    def describe(self, name: str) -> Group:
        """Describe a metric."""
        text = inspect.getdoc(find_metric(name).function) or ""
        return Group(Text(name, style="bold"), Text(strip_markup(text)))


def _task_lines(task: type[Task]) -> list[str]:
    """Return what a task is, what it needs, and what it reports."""
    data = list_settings(task).get("data")
    needs = "nothing: it comes with its data" if data is None else data.summary.rstrip(".")
    headline, *others = task.metrics
    metrics = [f"{headline} ({_direction(find_metric(headline))})", *others]
    return [task.summary, f"needs {needs}", f"metrics: {', '.join(metrics)}"]


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
    settings = list_settings(cls)
    # Of a task, what all tasks have comes last.
    shared = list_settings(Task).keys() if issubclass(cls, Task) else ()
    for setting in sorted(settings.values(), key=lambda setting: setting.name in shared):
        default = "required" if setting.default is MISSING else format_value(setting.default)
        condition = f"; with {setting.condition}" if setting.condition else ""
        kind = f"{describe_type(setting.kind)}{condition}"
        summary = f"{strip_markup(setting.summary).rstrip('.')} ({kind})".lstrip()
        table.add_row(setting.name, default, summary)
    top = [Text(strip_markup(line)) for line in lines]
    rest = [Text(line) for line in "\n\n".join(paragraphs).split("\n")]
    return Group(Text(name, style="bold"), *top, Text(""), *rest, "", table)


def _assignments(cls: type, skip: Collection[str] = ()) -> str:
    """Return the settings of a class with their defaults, without those of options."""
    settings = [s for s in list_settings(cls).values() if not s.choice and s.name not in skip]
    return ", ".join(_assignment(setting.name, setting.default) for setting in settings)


def _assignment(name: str, default: object) -> str:
    return f"{name} (required)" if default is MISSING else f"{name}={format_value(default)}"


def _direction(metric: Metric) -> str:
    """Return whether higher or lower values of a metric are better."""
    if metric.greater_is_better is None:
        return "neither higher nor lower is better; compare with real text"
    return "higher is better" if metric.greater_is_better else "lower is better"
