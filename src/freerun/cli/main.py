"""The entry point: exit statuses, and the errors of users."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import click

from freerun.cli.groups import CLASSES, EXPERIMENTS, LISTINGS, Program
from freerun.cli.stand_ins import NeedsLibrariesError, are_replaced, replace_libraries
from freerun.explanations import explain_error
from freerun.imports import is_address
from freerun.settings import SettingError

USAGE_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141

TRACEBACK = "FREERUN_TRACEBACK"
"""The environment variable that shows the traceback of every error if it is set."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `freerun`.

    Args:
        argv: the words after `freerun`; those of the process by default.

    Returns:
        The exit status: 0; 2 after an error in the command, its files or its data, which is
        reported on the standard error stream in one line; 130 after Ctrl-C, 143 and 129 after
        SIGTERM and SIGHUP; 141 if the reader of the output is gone.
    """
    if argv is not None:
        return run(argv)
    words = sys.argv[1:]
    _open_streams()
    try:
        if _only_describes(words):
            with contextlib.suppress(NeedsLibrariesError), replace_libraries():
                return run(words, owns_process=True)
        return run(words, owns_process=True)
    finally:
        _discard_unwritten()
        _stop_at_signals()


def run(words: Sequence[str], *, owns_process: bool = False) -> int:
    """Run a command, and report errors that the user can correct; return the exit status.

    Args:
        words: the words after `freerun`.
        owns_process: whether the process runs nothing else.

    Raises:
        NeedsLibrariesError: if stand-ins do not suffice for it.
    """
    command = words[0] if words and words[0] in CLASSES else ""
    name = f"freerun {command}".rstrip()
    _raise_at_signals()
    try:
        status = _invoke(list(words), owns_process)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        rest = (
            "; the same command resumes from the last checkpoint" if command in EXPERIMENTS else ""
        )
        _print_error(f"\n{name}: interrupted{rest}")
        return interrupt.status if isinstance(interrupt, Interrupted) else INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except Exception as error:
        if are_replaced() and not isinstance(error, (SettingError, click.ClickException)):
            raise NeedsLibrariesError from error
        message = explain(error)
        if message is None or os.environ.get(TRACEBACK):
            raise
        _print_error(f"{name}: {message}")
        return USAGE_ERROR


class Interrupted(KeyboardInterrupt):
    """A signal that ends the process, such as SIGTERM.

    Args:
        number: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def _raise_at_signals() -> None:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, except where they are ignored."""
    if threading.current_thread() is not threading.main_thread():
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, handle)


def _stop_at_signals() -> None:
    """Let signals end the process at once: an exception while it exits would be a traceback."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def explain(error: Exception) -> str | None:
    """Return the message of an error that the user can correct; None for an error of freerun."""
    if isinstance(error, click.NoSuchOption):
        return f"unknown option {error.option_name}; see freerun --help"
    if isinstance(error, click.ClickException):
        return error.message
    return explain_error(error, f" ({TRACEBACK}=1 shows the traceback)")


def _invoke(words: list[str], owns_process: bool) -> int:
    version = click.version_option(package_name="freerun", message="freerun %(version)s")
    program = version(Program(owns_process))
    if not words:
        # Versions of click differ in the status of this help and in the stream it goes to.
        context = click.Context(program, info_name="freerun", **program.context_settings)
        print(program.get_help(context), file=sys.stderr)
        return USAGE_ERROR
    try:
        # `program.main` would turn Ctrl-C and closed pipes into statuses of its own.
        with program.make_context("freerun", words) as context:
            program.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0


def _only_describes(words: Sequence[str]) -> bool:
    """Return whether a command only shows a help or a listing, without objects of a user."""
    describes = bool({"-h", "--help"}.intersection(words)) or (words and words[0] in LISTINGS)
    return bool(describes) and not any(map(is_address, words))


def _print_error(message: str) -> None:
    """Print to the standard error stream, whose reader may be gone."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


def _open_streams() -> None:
    """Write UTF-8 in all locales, as files are; let closed streams lead nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _discard_unwritten() -> None:
    """Drop what cannot be written; Python would try it once more at exit, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
