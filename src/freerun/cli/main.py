"""The entry point: exit statuses, and the errors of users."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from freerun import __version__
from freerun.cli.groups import CLASSES, EXPERIMENTS, Program

USAGE_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run `freerun`.

    Args:
        argv: The words after `freerun`; those of the process by default.

    Returns:
        The exit status: 0; 2 after an error in the command, its files or its data, which is
        reported on the standard error stream in one line; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    program = click.version_option(__version__, message="freerun %(version)s")(Program())
    if not words:
        # Versions of click differ in the status of this help and in the stream it goes to.
        context = click.Context(program, info_name="freerun", **program.context_settings)
        print(program.get_help(context), file=sys.stderr)
        return USAGE_ERROR
    command = words[0] if words[0] in CLASSES else ""
    name = f"freerun {command}".rstrip()
    try:
        # `program.main` would turn Ctrl-C and closed pipes into statuses of its own.
        with program.make_context("freerun", words) as context:
            program.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except KeyboardInterrupt:
        rest = (
            "; the same command resumes from the last checkpoint" if command in EXPERIMENTS else ""
        )
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
