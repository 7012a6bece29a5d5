"""Where the command line begins, and where mistakes of its user end."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from freerun import __version__
from freerun.settings import did_you_mean

COMMANDS = {
    "compare": "train several methods on a task alike, and show how they differ",
    "train": "train a model on a task by one method",
    "costs": "show what every token would cost at every cell of a sentence, and lead to",
    "evaluate": "measure what a trained model writes when it runs freely",
    "predict": "read sources, and write what a trained model makes of them",
    "tasks": "list the tasks: what they read and write, and the data they need",
    "methods": "list the training methods: their papers, when to use them, their settings",
}
RESUMABLE = ("train", "compare")
USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run `freerun`.

    Args:
        argv: the words after `freerun`; those that the program was called with by default.

    Returns:
        The exit status: 0, or 2 after a mistake in the command, its files or its data, which is
        reported on the standard error stream; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help(), file=sys.stdout if words else sys.stderr)
        return 0 if words else USAGE
    if words[0] == "--version":
        print(f"freerun {__version__}")
        return 0
    command = words[0]
    if command.startswith("-"):
        return _refuse("freerun", f"unknown option {command}; see freerun --help")
    if command not in COMMANDS:
        return _refuse("freerun", f"unknown command {command!r}{did_you_mean(command, COMMANDS)}")
    return _run(command, words[1:])


def _run(command: str, words: list[str]) -> int:
    """Run a command, and report mistakes that are not the program's without a traceback."""
    from freerun.cli.errors import MISTAKES, explain

    try:
        importlib.import_module(f"freerun.cli.{command}").run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        rest = "; the same command goes on from the last checkpoint" if command in RESUMABLE else ""
        print(f"\nfreerun {command}: interrupted{rest}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; so that Python does not try to flush it once more:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except MISTAKES as error:
        return _refuse(f"freerun {command}", explain(error))
    return 0


def _refuse(who: str, message: str) -> int:
    print(f"{who}: {message}", file=sys.stderr)
    return USAGE


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: freerun COMMAND …",
            "",
            "Train sequence models for the way they run.",
            "",
            "Commands:",
            *lines,
            "",
            "Begin with:  freerun compare digits --output runs/digits",
            "Help on a command:  freerun COMMAND --help",
        ]
    )
