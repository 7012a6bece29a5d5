"""Classes of settings as tables: all of a kind in brief, one of them in full."""

from __future__ import annotations

from docstring_parser import parse
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from freerun.cli.formatter import plain, width
from freerun.settings import MISSING, Setting, describe_type, format_value, list_settings


def console() -> Console:
    """Where listings are printed: as wide as the terminal, up to 100 columns."""
    found = Console(highlight=False)
    found.width = width()
    return found


def brief(name: str, lines: list[str], cls: type) -> Group:
    """A name, lines that say what it is, and its settings with their defaults."""
    settings = ", ".join(
        _assigned(setting) for setting in list_settings(cls).values() if not setting.choice
    )
    body = Table.grid(padding=(0, 0, 0, 2))
    for line in lines:
        body.add_row(Text(plain(line)))
    body.add_row(Text(f"settings: {settings or 'none'}", style="dim"))
    return Group(Text(name, style="bold"), _indented(body))


def full(name: str, lines: list[str], cls: type) -> Group:
    """All that the docstring of a class says, and a table of its settings."""
    described = parse(cls.__doc__ or "")
    text = "\n\n".join(filter(None, (described.short_description, described.long_description)))
    paragraphs = [plain(" ".join(part.split())) for part in text.split("\n\n")]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("setting", "default", "what it is"):
        table.add_column(heading)
    for setting in list_settings(cls).values():
        default = "required" if setting.default is MISSING else format_value(setting.default)
        kind = describe_type(setting.kind)
        if setting.condition:
            kind += f"; with {setting.condition}"
        summary = f"{plain(setting.summary).rstrip('.')} ({kind})"
        table.add_row(setting.name, default, summary)
    parts = [Text(line) for line in [*map(plain, lines), "", *"\n\n".join(paragraphs).split("\n")]]
    return Group(Text(name, style="bold"), *parts, "", table)


def _assigned(setting: Setting) -> str:
    if setting.default is MISSING:
        return f"{setting.name} (required)"
    return f"{setting.name}={format_value(setting.default)}"


def _indented(body: Table) -> Table:
    grid = Table.grid()
    grid.add_row("  ", body)
    return grid
