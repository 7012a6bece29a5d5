"""`freerun tasks`: what there is to learn."""

from __future__ import annotations

from freerun.cli.listing import brief, console, full
from freerun.cli.options import UsageError
from freerun.data import Task
from freerun.report.labels import label
from freerun.settings import SettingError, did_you_mean, list_settings
from freerun.tasks import TASKS

HELP = """\
Usage: freerun tasks [TASK]

List the tasks; with TASK, describe one and its settings.

In a command, its data are given as --data, and other settings as --task.NAME:
  freerun train spelling --data book.txt --task.noise 0.5 --output runs/spelling"""


def run(words: list[str]) -> None:
    """Run the command."""
    if {"-h", "--help"} & set(words):
        print(HELP)
        return
    if len(words) > 1:
        raise UsageError(f"{words[1]!r} is not expected here; see freerun tasks --help")
    if not words:
        for name, task in TASKS.items():
            console().print(brief(name, _lines(task), task), "")
        console().print("More on one of them:  freerun tasks TASK")
        return
    (name,) = words
    if name not in TASKS:
        raise SettingError(f"unknown task {name!r}{did_you_mean(name, TASKS)}")
    console().print(full(name, _lines(TASKS[name]), TASKS[name]))


def _lines(task: type[Task]) -> list[str]:
    """What a task is, what it needs, and what it reports."""
    data = list_settings(task).get("data")
    needs = "nothing: its data come with it" if data is None else data.summary.rstrip(".")
    better = "higher is better" if task.greater_is_better else "lower is better"
    return [task.summary, f"needs {needs}", f"metric: {label(task.metric)} ({better})"]
