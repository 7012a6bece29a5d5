"""How the help of a command looks."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
import typing
from typing import Any, Literal

from freerun.settings import MISSING, Setting, format_value

_PLACEHOLDERS = {
    "budget": "SECONDS",
    "config": "FILE",
    "data": "PATH",
    "dev": "FILE",
    "dev_source": "FILE",
    "dev_target": "FILE",
    "init": "CHECKPOINT",
    "json": "FILE",
    "method": "METHOD",
    "methods": "METHOD",
    "model": "MODEL",
    "output": "DIR",
    "png": "FILE",
    "source_column": "COLUMN",
    "target_column": "COLUMN",
    "test": "FILE",
    "test_source": "FILE",
    "test_target": "FILE",
    "train": "FILE",
    "train_source": "FILE",
    "train_target": "FILE",
}
_KINDS = {int: "N", float: "X", str: "TEXT", bool: "{true,false}"}


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help in two columns, as wide as the terminal up to 100 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=width() - 2)

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None) -> str:
        # An option and its value stay on one line.
        whole = re.sub(r"\[[^]]*\]", lambda found: found[0].replace(" ", "\xa0"), usage)
        lines = textwrap.wrap(f"Usage: {whole}", width() - 2, subsequent_indent=" " * 7)
        return "\n".join(lines).replace("\xa0", " ") + "\n\n"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # Of several lines, each is as it should be.
        return text if "\n" in text else textwrap.fill(text, width)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        found = super()._format_args(action, default_metavar)
        return f"{action.metavar} …" if action.nargs == "+" else found


def width() -> int:
    """The columns that are written to."""
    return min(shutil.get_terminal_size().columns, 100)


def described(setting: Setting, value: Any, *, switch: bool = False) -> str:
    """The help of a setting, which is `value` where it is not given.

    Args:
        setting: the setting.
        value: its value where it is not given.
        switch: whether to name it is to set it, and so its value goes without saying.
    """
    text = plain(setting.summary).rstrip(".")
    if value is MISSING:
        text += " (required)"
    elif value is not None and not switch:
        shown = (
            " ".join(map(format_value, value)) if isinstance(value, tuple) else format_value(value)
        )
        text += f" (default: {shown})"
    return text.replace("%", "%%")


def metavar(name: str, kind: Any) -> str:
    """What stands for the value of a setting."""
    own = name.rpartition(".")[2]
    if own in _PLACEHOLDERS:
        return _PLACEHOLDERS[own]
    arguments = [a for a in typing.get_args(kind) if a is not type(None)]
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(map(str, arguments)) + "}"
    if arguments:
        return metavar(name, arguments[0])
    return _KINDS.get(kind, own.upper())


def plain(text: str) -> str:
    """Text without the marks of code and titles that docstrings have."""
    return re.sub(r"\*([^*]+)\*", r"\1", text.replace("`", ""))
