"""A report as a single page of HTML, which needs no network and no scripts.

Everything that comes from data is escaped by Jinja; pictures are SVG by matplotlib, which escapes
their text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

TEMPLATE = "page.html"


@dataclass(frozen=True)
class ReportCell:
    """A cell of a table: lines of text, of which all but the first are smaller.

    Attributes:
        lines: the lines.
        mark: `better` or `worse` if the cell is a clear difference, otherwise empty.
    """

    lines: Sequence[str]
    mark: str = ""


@dataclass(frozen=True)
class ReportRow:
    """A row of a table: its name, and its cells."""

    name: str
    cells: Sequence[ReportCell]


@dataclass(frozen=True)
class ReportTable:
    """A table, with a heading for every column and notes below."""

    headings: Sequence[str]
    rows: Sequence[ReportRow]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A picture: its title, SVG, and what it shows."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Piece:
    """A part of an output.

    Attributes:
        kind: `same`; `wrong`, if the reference has something else here or nothing; or `missing`, a
            part of the reference that the output lacks.
        text: its text.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Example:
    """An example.

    Attributes:
        number: its number in the test set, from 1.
        source: the source; None if it is not text.
        reference: the reference.
        outputs: by method, the number of errors of the output, or None if they are not counted, and
            the parts of the output.
    """

    number: int
    source: str | None
    reference: str
    outputs: Mapping[str, tuple[int | None, Sequence[Piece]]]


@dataclass(frozen=True)
class Group:
    """Examples that were chosen for the same reason."""

    title: str
    examples: Sequence[Example]


@dataclass(frozen=True)
class Page:
    """The contents of a report, from top to bottom.

    Attributes:
        title: the title.
        subtitle: what was measured, in a line.
        answer: the answer in words, one sentence per line.
        table: the figures.
        pictures: the plots.
        groups: examples.
        missing: what is left out, and why.
        details: settings, versions and digests: by heading, names and values.
        command: the command line; None if it was called from Python.
    """

    title: str
    subtitle: str
    answer: Sequence[str]
    table: ReportTable
    pictures: Sequence[Picture] = ()
    groups: Sequence[Group] = ()
    missing: Sequence[str] = ()
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command: str | None = None

    @property
    def has_marks(self) -> bool:
        """Whether differences of outputs are marked."""
        examples = [example for group in self.groups for example in group.examples]
        outputs = [output for example in examples for output in example.outputs.values()]
        return any(errors is not None for errors, _ in outputs)


def render(page: Page) -> str:
    """Return a report as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("freerun.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shown"] = show_value
    return environment.get_template(TEMPLATE).render(page=page)


def show_value(value: object) -> str:
    """Return a setting as text: text as it is, and everything else as in JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
