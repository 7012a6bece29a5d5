"""The commands by name. Each is imported when it runs, because importing torch takes seconds."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Mapping
from typing import Any

import click

from freerun.cli.options import CONTEXT
from freerun.settings import did_you_mean

SUMMARIES = {
    "compare": "Train several methods on a task under the same conditions and compare them.",
    "report": "Write the report of a finished comparison, or its table in another format.",
    "train": "Train a model on a task by one method.",
    "costs": "Show what every token would cost in every cell of an output.",
    "evaluate": "Measure how good the outputs of a trained model are when it runs freely.",
    "diagnose": "Measure how many errors of a trained model come from its own earlier ones.",
    "predict": "Write the outputs of a trained model for sources from a file.",
    "tasks": "List the tasks with their data and settings.",
    "methods": "List the training methods with their papers and settings.",
    "metrics": "List the metrics that outputs can be measured by.",
}
CLASSES = {
    "compare": "train.CompareCommand",
    "report": "report.ReportCommand",
    "train": "train.TrainCommand",
    "costs": "costs.CostsCommand",
    "evaluate": "evaluate.EvaluateCommand",
    "diagnose": "diagnose.DiagnoseCommand",
    "predict": "predict.PredictCommand",
    "tasks": "listings.TasksCommand",
    "methods": "listings.MethodsCommand",
    "metrics": "listings.MetricsCommand",
}
EXPERIMENTS = ("compare", "train")
"""The commands that train on a task: each is a `TaskGroup`."""

LISTINGS = ("tasks", "methods", "metrics")
"""The commands that only describe."""


class LazyGroup(click.Group):
    """A group that lists its commands by name and summary without importing them.

    Args:
        name: the name of the group.
        summaries: the summary of each command.
        heading: the heading of the commands in the help.
        settings: passed to `click.Group`.
    """

    def __init__(
        self, name: str, summaries: Mapping[str, str], heading: str, **settings: Any
    ) -> None:
        super().__init__(
            name, context_settings=CONTEXT, no_args_is_help=False, options_metavar="", **settings
        )
        self.summaries, self.heading = summaries, heading

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.summaries)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names and summaries of the commands."""
        with formatter.section(self.heading):
            formatter.write_dl(list(self.summaries.items()))


class Program(LazyGroup):
    """`freerun` with all its commands.

    Args:
        owns_process: whether the process runs nothing else. Garbage is then not collected before
            the command is imported, and never in what was imported: that would take a third of the
            time of the imports.
    """

    def __init__(self, owns_process: bool = False) -> None:
        self.owns_process = owns_process
        if owns_process:
            gc.disable()
        super().__init__(
            "freerun",
            SUMMARIES,
            "Commands",
            help="Train sequence models for the way they run.",
            epilog="\b\n"
            "First steps:         freerun compare digits --output runs/digits\n"
            "Help on a command:   freerun COMMAND --help",
            subcommand_metavar="COMMAND …",
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import a command.

        Raises:
            click.UsageError: if there is no such command.
        """
        if cmd_name not in CLASSES:
            nearest = did_you_mean(cmd_name, CLASSES)
            raise click.UsageError(f"unknown command {cmd_name!r}{nearest}")
        if cmd_name in EXPERIMENTS:
            return TaskGroup(cmd_name, self.owns_process)
        command: click.Command = _import_class(cmd_name, self.owns_process)(cmd_name)
        return command


class TaskGroup(LazyGroup):
    """`freerun train` or `freerun compare`, whose subcommands are the tasks."""

    def __init__(self, name: str, owns_process: bool) -> None:
        from freerun.tasks import TASKS

        self.owns_process = owns_process
        super().__init__(
            name,
            {name: task.summary for name, task in TASKS.items()},
            "Tasks",
            help=SUMMARIES[name],
            epilog="\b\n"
            f"Settings, with the defaults of a task:  freerun {name} TASK --help\n"
            f"A task of your own:                     freerun {name} my_task.py:MyTask",
            subcommand_metavar="TASK …",
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the task from the first word or from `--task`.

        Raises:
            click.UsageError: if there is no task.
        """
        words = list(args)
        for index, word in enumerate(words):
            if word == "--task" or word.startswith("--task="):
                named = words[index + 1 : index + 2] if word == "--task" else [word[7:]]
                words = [*named, *words[:index], *words[index + (2 if word == "--task" else 1) :]]
                break
        if not words or (words[0].startswith("-") and not {"-h", "--help"} & set(words)):
            first = f"freerun {self.name} TASK …, one of {', '.join(self.summaries)}"
            raise click.UsageError(f"the task comes first: {first}")
        return super().parse_args(ctx, words)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Return the command on a task.

        Raises:
            SettingError: if there is no such task.
        """
        from freerun.tasks import find_task

        # An unknown task is reported before the training code is imported.
        task = find_task(cmd_name)
        command: click.Command = _import_class(str(self.name), self.owns_process)(cmd_name, task)
        return command


def _import_class(command: str, owns_process: bool) -> Any:
    """Import the class of a command, and start to collect garbage again (see `Program`)."""
    module, _, name = CLASSES[command].partition(".")
    found = getattr(importlib.import_module(f"freerun.cli.{module}"), name)
    if owns_process:
        gc.freeze()
        gc.enable()
    return found
