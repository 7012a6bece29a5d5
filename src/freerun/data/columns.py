"""Rows of sources and targets, from chosen columns of a table or from two files line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from freerun.data.files import Line
from freerun.data.parallel import SIDES, read_aligned
from freerun.data.rows import ROW_COLUMNS, write_object
from freerun.data.tables import FileRow, Table, read_table
from freerun.errors import DataError

Column = int | str

_WITHOUT_NAMES = ("0", "1")
"""The columns of a file with two cells in a line and no names."""


@dataclass(frozen=True)
class ColumnChoice:
    """Which columns of a table are the source and the target.

    By default they are those that rows usually have (see `ROW_COLUMNS`), and the first and second
    of a file of two columns without names.

    Args:
        source: the columns of the source, by numbers from 0 or by names; the texts of several are
            joined.
        target: the column of the target, likewise.
        separator: the text between the columns of a source.
        header: whether the first line of a text file has the names of the columns; None to decide
            by whether it has the chosen names, or one of those of `ROW_COLUMNS`.
        references: other columns of right targets; the targets of a row are then a list, without
            those that are empty.
    """

    source: tuple[Column, ...] = ()
    target: Column | None = None
    separator: str = " "
    header: bool | None = None
    references: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        """Check the combination of settings.

        Raises:
            ValueError: if it is wrong. The message names the setting.
        """
        if bool(self.source) != (self.target is not None):
            one, other = ("source_columns", "target_column")
            if not self.source:
                one, other = other, one
            raise ValueError(f"{one} is given without {other}")
        for column in self._columns:
            if isinstance(column, int) and column < 0:
                raise ValueError(f"column {column} is chosen; columns are counted from 0")
        if self.target in self.source:
            raise ValueError(f"column {self.target} is both a source and the target")

    @property
    def _columns(self) -> tuple[Column, ...]:
        target = () if self.target is None else (self.target,)
        return (*self.source, *target, *self.references)

    def read(self, path: str) -> Table:
        """Read a file of rows with all its columns; in .txt, they are between tabs.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return read_table(path, self.is_header, texts=True)

    def is_header(self, cells: Sequence[str]) -> bool:
        """Return whether the cells of the first line are names of columns."""
        if self.header is not None:
            return self.header
        names = [column for column in self._columns if isinstance(column, str)]
        if names:
            return True
        # One of two names is enough: the other may be misspelt, which is an error and no row.
        return any(not set(columns).isdisjoint(cells) for columns in ROW_COLUMNS.values())

    def describe(self, table: Table) -> list[str]:
        """Return a note on a first line that is a row, as it has no known names of columns."""
        names = tuple(table.columns)
        numbered = names == tuple(str(i) for i in range(len(names)))
        if self.header is not None or not numbered:
            return []
        if self.target is None and names != _WITHOUT_NAMES:
            return []
        which = "it is a row"
        if self.target is None:
            which = "the first column is the source and the second the target"
        first = self.select(Table(table.name, table.rows[:1], table.columns)).rows[0]
        return [
            f"the first line has no names of columns that are known, so {which}: "
            f"{first['source']!r:.40} → {first['target']!r:.40}; if these are names, choose the "
            "columns by them"
        ]

    def select(self, table: Table) -> Table:
        """Return the table with the chosen columns as `source` and `target`.

        Raises:
            DataError: if a column is missing, or a value is not text. The message names the row.
        """
        source, target = self.source, self.target
        if target is None:
            if tuple(table.columns) != _WITHOUT_NAMES:
                self._check_names(table)
                return self._add_references(table, table) if self.references else table
            source, target = (0,), 1
        names = [self._find(column, table) for column in source]
        last = self._find(target, table)
        rows = [
            FileRow(
                {"source": self.join(row, names, row.place), "target": row.get(last)},
                row.origin,
                row.number,
            )
            for row in table.rows
        ]
        return self._add_references(Table(table.name, rows, SIDES), table)

    def _add_references(self, chosen: Table, table: Table) -> Table:
        """Return the chosen columns of a table with lists of targets, if there are references."""
        if not self.references:
            return chosen
        names = [self._find(column, table) for column in self.references]
        target = chosen.find_column(["target", "completion"])
        for row, whole in zip(chosen.rows, table.rows, strict=True):
            texts = [row.get(target), *(whole.get(name) for name in names)]
            row[target] = [text for text in texts if text not in (None, "")]
        return chosen

    def join(self, row: Mapping[str, Any], names: Sequence[str], place: str) -> str:
        """Return the text of the source of a row.

        Raises:
            DataError: if a value is not text. The message names the row.
        """
        texts = [row.get(name) for name in names]
        for name, text in zip(names, texts, strict=True):
            if not isinstance(text, str):
                raise DataError(f"{place}: column {name} is {text!r:.40}; it must be text")
        return self.separator.join(map(str, texts))

    def read_sources(self, path: str) -> Iterator[Line]:
        """Read the rows of a table to predict from as lines, whose columns are chosen.

        Rows of columns with names are JSON objects with all of them. Others are plain text, of the
        source alone; a table of as many columns as a source has, has no others.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        table = read_table(path, self.is_header, texts=True)
        numbered = tuple(table.columns) == tuple(str(i) for i in range(len(table.columns)))
        source = self.source or ((0,) if numbered else ())
        if numbered and len(table.columns) == len(source):
            source = tuple(range(len(source)))
        names = [self._find(column, table) for column in source]
        for row in table.rows:
            text = self.join(row, names, row.place) if names else ""
            own = {"source": text} if names else {}
            yield row.number, text if numbered else write_object({**row, **own})

    def convert_line(self, line: str, place: str) -> str:
        """Return a line to predict from, with its columns joined, if there are several.

        A line is the columns of a source between tabs, or a JSON object with their names, or the
        source itself.

        Raises:
            DataError: if it has another number of columns. The message names the place.
        """
        names = [str(column) for column in self.source]
        if line.lstrip().startswith("{"):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None  # the codec says what is wrong
            if isinstance(row, dict) and names and set(names) <= set(row):
                source = self.join(row, names, place)
                return json.dumps({**row, "source": source}, ensure_ascii=False)
            return line
        if len(self.source) < 2 or "\t" not in line:
            return line
        cells = line.split("\t")
        if len(cells) != len(names):
            raise DataError(
                f"{place}: {len(cells)} columns between tabs; a source has {len(names)}: "
                f"{', '.join(names)}"
            )
        return self.separator.join(cells)

    def _find(self, column: Column, table: Table) -> str:
        """Return the name of a column."""
        names = table.columns
        if isinstance(column, int):
            if column < len(names):
                return names[column]
            raise DataError(
                f"{table.name}: no column {column}; there are {len(names)}, counted from 0"
            )
        return table.find_column([column])

    def _check_names(self, table: Table) -> None:
        """Check that a file without names of columns has a column of text alone."""
        if table.columns and all(name == str(i) for i, name in enumerate(table.columns)):
            known = "; ".join(map(" and ".join, ROW_COLUMNS.values()))
            first = table.rows[0]
            raise DataError(
                f"{first.place}: the columns are {', '.join(first.values())}; known names are "
                f"{known}. Choose others by source_columns and target_column, by their names or by "
                "their numbers from 0"
            )


def read_line_pairs(source: str, target: str) -> Table:
    """Read two files, the lines of one of which are the targets of those of the other.

    Raises:
        DataError: if one has more lines than the other, or a line is empty.
    """
    pairs = read_aligned(source, target)
    rows = [FileRow(pair._asdict(), f"{source}, line", i) for i, pair in enumerate(pairs, 1)]
    return Table(source, rows, SIDES)
