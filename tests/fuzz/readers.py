"""What a file of rows says, read in the strictest way; None for a file that has to be refused.

These readers share no code with freerun, and use the plainest means of the standard library.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from typing import Any

Rows = list[dict[str, Any]]

UNNAMED = ("source", "target")
"""What the two columns of a table are called if its first line has no name that is known."""
KNOWN = {*UNNAMED, "prompt", "completion", "messages", "text", "input_ids", "labels"}


def read(raw: bytes, name: str, columns: tuple[str, str]) -> Rows | None:
    """Return the two columns of the rows in a file with this name and these contents."""
    if name.endswith(".gz"):
        try:
            raw, name = gzip.decompress(raw), name.removesuffix(".gz")
        except (OSError, EOFError, zlib.error):
            return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    suffix = name.rpartition(".")[2]
    reader = {"csv": _csv, "tsv": _tsv, "json": _json, "jsonl": _jsonl}[suffix]
    try:
        rows = reader(text)
    except (ValueError, csv.Error, RecursionError):
        return None
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    if not any(column in row for row in rows for column in columns):
        columns = UNNAMED
    for row in rows:
        if _is_references(texts := row.get(columns[1])):
            row[columns[1]] = texts[0]
    if not all(isinstance(row.get(c), str) and row[c].strip() for row in rows for c in columns):
        return None
    return [{column: row[column] for column in columns} for row in rows]


def _is_references(value: Any) -> bool:
    """Return whether a target is a list of one text, which may be given for the text alone."""
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)


def read_tagged(raw: bytes) -> Rows | None:
    """Return the sentences of a file in columns; the first is the token, the last the tag."""
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        return None
    lines = [line.removesuffix("\r") for line in lines]
    rows: Rows = []
    width, tabs = 0, None
    for block in re.split(r"\n(?:[^\S\n]*\n)+", "\n".join(_separate(lines)).strip("\n")):
        cells = []
        for line in block.split("\n"):
            if not line.strip():
                continue
            tabs = "\t" in line if tabs is None else tabs
            found = [c.strip(" ") for c in line.split("\t")] if tabs else line.split(" ")
            cells.append([cell for cell in found if cell or tabs])
            width = width or len(cells[-1])
            if len(cells[-1]) != width or width < 2 or not (cells[-1][0] and cells[-1][-1]):
                return None
        if not cells:
            continue
        tags = [row[-1] for row in cells]
        if not all(re.fullmatch(r"O|[BI](-.+)?", tag) for tag in tags):
            return None
        before = ["O", *tags]
        begun = [
            f"B{tag[1:]}" if tag[0] == "I" and old[1:] != tag[1:] else tag
            for old, tag in zip(before, tags, strict=False)
        ]
        rows.append({"tokens": [row[0] for row in cells], "tags": begun})
    return rows or None


def read_paragraphs(raw: bytes) -> list[str] | None:
    """Return the paragraphs of a text file, with single spaces."""
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return [part for part in found if part] or None


def _separate(lines: list[str]) -> list[str]:
    return ["" if line.startswith("-DOCSTART-") else line for line in lines]


def _csv(text: str) -> list[Any]:
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    return _table(header, rows)


def _tsv(text: str) -> list[Any]:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    header, *rows = [line.split("\t") for line in lines if line]
    return _table(header, rows)


def _table(header: list[str], rows: list[list[str]]) -> list[Any]:
    if len(header) == len(UNNAMED) and KNOWN.isdisjoint(header):
        header, rows = list(UNNAMED), [header, *rows]
    if len(set(header)) < len(header):
        raise ValueError("two columns have one name")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _json(text: str) -> list[Any]:
    try:
        found = json.loads(text, strict=False)
    except ValueError:
        return _jsonl(text)
    return found if isinstance(found, list) else [found]


def _jsonl(text: str) -> list[Any]:
    # Control characters may stand in texts: what they mean is not in doubt.
    return [json.loads(line, strict=False) for line in text.split("\n") if line.strip()]
