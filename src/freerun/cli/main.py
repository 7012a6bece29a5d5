"""The entry point: commands that are imported when they run, exit statuses, and user errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from freerun import __version__
from freerun.cli.options import LazyGroup
from freerun.settings import did_you_mean

COMMANDS = {
    "compare": "Train several methods on a task under the same conditions and compare them.",
    "train": "Train a model on a task by one method.",
    "costs": "Show what every token would cost in every cell of an output.",
    "evaluate": "Measure how good the outputs of a trained model are when it runs freely.",
    "predict": "Write the outputs of a trained model for sources from a file.",
    "tasks": "List the tasks with their data and settings.",
    "methods": "List the training methods with their papers and settings.",
}
FILES = {"compare": "train", "predict": "evaluate", "tasks": "listings", "methods": "listings"}
"""The module of a command, where it is not named like the command."""

RESUMABLE = ("train", "compare")
USAGE_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


class Freerun(LazyGroup):
    """The program. Its commands import torch, which takes seconds; its help does not."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import a command.

        Raises:
            click.UsageError: If there is no such command.
        """
        if cmd_name not in COMMANDS:
            nearest = did_you_mean(cmd_name, COMMANDS)
            raise click.UsageError(f"unknown command {cmd_name!r}{nearest}")
        file = FILES.get(cmd_name, cmd_name)
        command: click.Command = importlib.import_module(f"freerun.cli.{file}").COMMANDS[cmd_name]()
        return command


program = Freerun(
    "freerun",
    COMMANDS,
    "Commands",
    help="Train sequence models for the way they run.",
    epilog="\b\n"
    "First steps:         freerun compare digits --output runs/digits\n"
    "Help on a command:   freerun COMMAND --help",
    subcommand_metavar="COMMAND …",
    options_metavar="",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, _, given: _print_version(ctx) if given else None,
            help="Show the version and exit.",
        )
    ],
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `freerun`.

    Args:
        argv: The words after `freerun`; those of the process by default.

    Returns:
        The exit status: 0; 2 after an error in the command, its files or its data, which is
        reported on the standard error stream in one line; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        context = click.Context(program, info_name="freerun", **program.context_settings)
        print(program.get_help(context), file=sys.stderr)
        return USAGE_ERROR
    command = words[0] if words[0] in COMMANDS else ""
    name = f"freerun {command}".rstrip()
    try:
        # `program.main` would turn Ctrl-C and closed pipes into statuses of its own.
        with program.make_context("freerun", words) as context:
            program.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except KeyboardInterrupt:
        rest = "; the same command resumes from the last checkpoint" if command in RESUMABLE else ""
        print(f"\n{name}: interrupted{rest}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output is gone. Python would try to flush it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"{name}: {message}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def explain(error: Exception) -> str | None:
    """Return the message of an error that the user can correct; None for an error of freerun.

    A FloatingPointError is a loss that is no longer a number: the learning rate was too high.
    """
    if isinstance(error, click.NoSuchOption):
        return f"unknown option {error.option_name}; see freerun --help"
    if isinstance(error, click.ClickException):
        return error.message

    # These import torch, which an error in the first word does not need.
    from freerun.data import DataError
    from freerun.errors import CheckpointError, WriteError
    from freerun.report import MissingPlotsError
    from freerun.settings import SettingError

    if isinstance(error, OSError) and error.strerror and not isinstance(error, WriteError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    expected = (SettingError, DataError, CheckpointError, MissingPlotsError, FloatingPointError)
    return str(error) if isinstance(error, (*expected, OSError)) else None


def _print_version(context: click.Context) -> None:
    print(f"freerun {__version__}")
    context.exit()
