"""Several right targets of a source: its references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freerun.data.rows import ROW_COLUMNS, Row, find_kind, name_rows
from freerun.data.tables import FileRow
from freerun.errors import DataError

REFERENCES = "references"
"""The column of the other right targets of a row, a list of texts."""

KINDS = ("source", "prompt")
"""The kinds of rows whose targets may be lists of texts."""


def collect_references(rows: Sequence[Row], kind: str) -> list[Row]:
    """Return rows with one target each, and the others in the column `REFERENCES`.

    What rows already have in a column of this name, such as the sources of an answer, is left out.

    Args:
        rows: the rows, whose targets may be lists of texts.
        kind: their kind.
    """
    found: list[Row] = []
    for row in rows:
        texts: Any = row.get(ROW_COLUMNS[kind][1]) if kind in KINDS else None
        if _is_list_of_texts(texts):
            first, *others = dict.fromkeys(texts)
            row = _change(row, {ROW_COLUMNS[kind][1]: first, REFERENCES: others})
        elif REFERENCES in row:
            row = _change(row, {REFERENCES: []})
        found.append(row)
    return found


def separate_references(rows: Sequence[Row], kind: str) -> list[Row]:
    """Return a row for each reference, to train on."""
    found: list[Row] = []
    for row in rows:
        if others := row.get(REFERENCES):
            target = ROW_COLUMNS[kind][1]
            texts = (row[target], *others)
            found += [_change(row, {target: text, REFERENCES: []}) for text in texts]
        else:
            found.append(row)
    return found


def merge_references(rows: Sequence[Row], kind: str, name: str) -> list[Row]:
    """Return one row for each source, at its first place, with the targets of all as references.

    Args:
        rows: the rows.
        kind: their kind.
        name: where they come from, for messages.

    Raises:
        DataError: if rows of this kind have no references, or their targets are not texts.
    """
    if kind not in KINDS:
        raise DataError(
            f"{name}: rows of {kind} have no references; set repeated to examples, or leave it out"
        )
    source, target = ROW_COLUMNS[kind]
    for row, place in zip(rows, name_rows(rows, name), strict=True):
        if not isinstance(text := row.get(target), str):
            raise DataError(
                f"{place}: the {target} is {text!r:.40}; with repeated=references it must be text"
            )
    targets: dict[str, list[str]] = {}
    first: dict[str, Row] = {}
    for row in rows:
        key = repr(row.get(source))
        first.setdefault(key, row)
        targets.setdefault(key, []).extend([row[target], *row.get(REFERENCES, ())])
    return [
        _change(row, {REFERENCES: [*dict.fromkeys(targets[key])][1:]}) for key, row in first.items()
    ]


def choose_reference(rows: Sequence[Row], number: int, name: str) -> list[Row]:
    """Return rows with one of their other references as the target, if there are so many.

    Args:
        rows: the rows.
        number: the number of the reference, counted from 0.
        name: where they come from, for messages.

    Raises:
        DataError: if rows of this kind have no references, or they are not texts.
    """
    kind, places = find_kind(rows[0], name), name_rows(rows, name)
    if kind not in KINDS:
        raise DataError(f"{name}: rows of {kind} have no other references; leave them out")
    found = []
    for row, place in zip(rows, places, strict=True):
        texts = row.get(REFERENCES) or []
        if texts and not _is_list_of_texts(texts):
            raise DataError(f"{place}: references is {texts!r:.40}; it must be a list of texts")
        values: dict[str, object] = {REFERENCES: []}
        if number < len(texts):
            values[ROW_COLUMNS[kind][1]] = texts[number]
        found.append(_change(row, values))
    return found


def describe_references(name: str, rows: Sequence[Row]) -> list[str]:
    """Return a note on the rows of a split that have several references."""
    counts = [1 + len(row[REFERENCES]) for row in rows if row.get(REFERENCES)]
    if not counts:
        return []
    return [
        f"{len(counts)} of {len(rows)} rows of {name} have several references, {max(counts)} at "
        "most; each output is compared with the one that it is best for"
    ]


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _change(row: Row, values: Row) -> Row:
    """Return a row with other values in some columns, at the same place."""
    if isinstance(row, FileRow):
        return FileRow({**row, **values}, row.origin, row.number)
    return {**row, **values}
