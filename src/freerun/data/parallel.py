"""Parallel text: sentences and their translations, from files or the `datasets` library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import regex

from freerun.data.files import (
    Line,
    decode_lines,
    decompress,
    list_archive,
    read_archive,
    read_bytes,
    read_lines,
)
from freerun.data.folders import is_dataset, load_splits
from freerun.data.splits import count_shared
from freerun.data.tables import Table
from freerun.data.tokens import WORD
from freerun.errors import DataError

SIDES = ("source", "target")
_TEXT = ("", ".tsv", ".txt", ".gz")


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str


class Columns(NamedTuple):
    """The columns of the two sides: by numbers from 0, or by names."""

    source: int | str
    target: int | str


def read_pairs(path: str, columns: Columns) -> list[Pair]:
    """Read the pairs of a file with one pair per line, in columns separated by tabs.

    The file is plain or gzipped, or the only text file of a zip archive; files in it with names
    that begin with a dot or an underscore are ignored. There are no quotes: a tab always separates,
    and all lines have the same number of columns. If columns are named, the first line contains
    their names.

    Raises:
        DataError: names the file, the line and what is expected.
    """
    name, raw = _contents(path)
    lines = list(decode_lines(raw, name))
    all_lines, numbers = lines, columns
    if any(isinstance(column, str) for column in columns):
        (first, header), *lines = lines
        there = header.split("\t")
        numbers = Columns(
            *(_find_number(column, there, f"{name}, line {first}") for column in columns)
        )
        if not lines:
            raise DataError(f"{name}: nothing follows the names of the columns")
    pairs = [_pair(line, numbers, name) for line in lines]
    _check_widths(all_lines, name)
    return pairs


def _check_widths(lines: list[Line], name: str) -> None:
    """Check that all lines have as many columns as the first: an extra tab shifts columns."""
    widths = [text.count("\t") + 1 for _, text in lines]
    for (number, _), width in zip(lines, widths, strict=True):
        if width != widths[0]:
            raise DataError(
                f"{name}, line {number}: {width} columns between tabs; line {lines[0][0]} has "
                f"{widths[0]}"
            )


def read_aligned(source: str, target: str) -> list[Pair]:
    """Read the pairs of two files, plain or gzipped, whose lines are translations of each other.

    Raises:
        DataError: if one has more lines than the other, or a line is empty.
    """
    files = {path: list(read_lines(path)) for path in (source, target)}
    counts = [len(lines) for lines in files.values()]
    if len(set(counts)) > 1:
        raise DataError(
            f"{source} has {counts[0]} lines, and {target} has {counts[1]}; each line of one must "
            "translate the same line of the other"
        )
    for path, lines in files.items():
        for number, text in lines:
            if not text.strip():
                raise DataError(
                    f"{path}, line {number}: there is no text; leave the line out of both files"
                )
    texts = ([text for _, text in lines] for lines in files.values())
    return [Pair(*sides) for sides in zip(*texts, strict=True)]


def extract_pairs(table: Table, columns: Columns) -> list[Pair]:
    """Read the pairs of a table.

    A column is one of the languages of a column `translation`, or if there is none, a column of the
    table.

    Raises:
        DataError: if a column or row is wrong. The message names it.
    """
    languages = list_languages(table)
    names = [languages[_find_number(column, languages, table.name)] for column in columns]
    pairs = []
    for row in table.rows:
        values = row.get("translation") if "translation" in table.columns else row
        sides = []
        for side, name in zip(SIDES, names, strict=True):
            text = values.get(name) if isinstance(values, Mapping) else None
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{row.place}: the {side} is {text!r:.40}; it must be text")
            sides.append(text)
        pairs.append(Pair(*sides))
    return pairs


def list_languages(table: Table) -> list[str]:
    """Return the languages of a column `translation`, or the columns if there is none."""
    if "translation" not in table.columns:
        return list(table.columns)
    first = table.rows[0].get("translation") if table.rows else None
    return list(first) if isinstance(first, Mapping) else []


def _contents(path: str) -> tuple[str, bytes]:
    """Return the name and contents of a file, or of the only text file in a zip archive."""
    if Path(path).suffix != ".zip":
        return path, read_bytes(path)
    names = [name for name in list_archive(path) if _is_text(PurePath(name))]
    if len(names) != 1:
        found = ", ".join(sorted(names)) or "none"
        raise DataError(f"{path}: one text file is needed in it; there is {found}")
    where = str(Path(path, names[0]))
    return where, decompress(read_archive(path, names[0].__eq__)[names[0]], where)


def _is_text(path: PurePath) -> bool:
    hidden = path.name.startswith((".", "_")) or "__MACOSX" in path.parts
    return not hidden and path.suffix in _TEXT


def _pair(line: Line, columns: Columns, name: str) -> Pair:
    """Parse the pair of a line."""
    number, text = line
    cells = text.split("\t")
    sides = []
    for side, column in zip(SIDES, columns, strict=True):
        i = int(column)
        if i >= len(cells):
            count = f"{len(cells)} column{'s' if len(cells) > 1 else ''} between tabs"
            raise DataError(
                f"{name}, line {number}: {count}; the {side} is in column {i}, counted from 0"
            )
        if not cells[i].strip():
            raise DataError(f"{name}, line {number}: the {side}, in column {i}, is empty")
        sides.append(cells[i])
    return Pair(*sides)


def _find_number(column: int | str, names: Sequence[str], where: str) -> int:
    """Return the number of a column."""
    if isinstance(column, int):
        if column < len(names):
            return column
        raise DataError(f"{where}: no column {column}; there are {len(names)}, counted from 0")
    if column in names:
        return names.index(column)
    raise DataError(f"{where}: no column {column!r}; it has {', '.join(names)}")


Files = Mapping[str, tuple[str | None, str | None]]
"""For train, dev and test, the file of the sources and that of the targets."""


def read_parts(
    data: str | None, files: Files, columns: Columns, subset: str | None
) -> dict[str, list[Pair]]:
    """Read the pairs of every given split.

    Args:
        data: a file with both sides, or a dataset; None if there are `files`.
        files: the files of each split.
        columns: the columns of the sides in `data`.
        subset: the subset of a dataset.

    Raises:
        DataError: names the file, the line and what is expected.
        MissingExtraError: if `datasets` is needed and not installed.
    """
    if data is not None and is_dataset(data):
        return {
            name: extract_pairs(table, columns) for name, table in load_splits(data, subset).items()
        }
    if subset is not None:
        raise DataError(f"{data or files['train'][0]}: it is a file, and has no subset {subset!r}")
    if data is not None:
        return {"train": read_pairs(data, columns)}
    return {
        name: read_aligned(source, target)
        for name, (source, target) in files.items()
        if source and target
    }


_WORD = regex.compile(WORD)


def count_words(text: str) -> int:
    """Count the words and punctuation marks of a text."""
    return len(_WORD.findall(text))


def note_shared_pairs(parts: Mapping[str, Sequence[Pair]]) -> list[str]:
    """Return notes on sentences that are in two splits."""
    notes = []
    for one, other in (("test", "train"), ("test", "dev"), ("dev", "train")):
        pairs, others = parts[one], parts[other]
        sources = count_shared((p.source for p in pairs), (p.source for p in others))
        targets = count_shared((p.target for p in pairs), (p.target for p in others))
        notes.append(
            f"of the {len(pairs)} pairs of {one}, {sources} have a source that is also in "
            f"{other}, {targets} a target, {count_shared(pairs, others)} both"
        )
    return notes
