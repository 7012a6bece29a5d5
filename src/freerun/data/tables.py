"""Files of rows: CSV, TSV, JSON, JSON lines, Parquet and Arrow.

Nothing is inferred or converted: cells of CSV and TSV are always text, and values of JSON keep
their types. If a lenient reader would have to guess, an error names file and line.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from os.path import exists
from typing import TYPE_CHECKING, Any, NoReturn

from freerun.data.files import decode_lines, get_suffix, read_bytes, stream_lines
from freerun.errors import DataError
from freerun.imports import import_extra

if TYPE_CHECKING:
    import pyarrow

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
"""The extensions of files of rows; .gz may follow."""

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class FileRow(dict[str, Any]):
    """A row and the place from which it was read.

    Args:
        values: the values, by column.
        origin: the file and the unit of the number, as in "rows.csv, line".
        number: the number of the line or the row.
    """

    __slots__ = ("number", "origin")

    def __init__(self, values: Mapping[str, Any], origin: str, number: int) -> None:
        super().__init__(values)
        self.origin, self.number = origin, number

    @property
    def place(self) -> str:
        """The place, for messages."""
        return f"{self.origin} {self.number}"


@dataclass(frozen=True)
class Table:
    """The rows of a file, or of a split of a dataset.

    Args:
        name: its name in messages.
        rows: the rows.
        columns: the columns of the first row, or of all.
        classes: the names of the numbers in a column that has class labels.
    """

    name: str
    rows: list[FileRow]
    columns: Sequence[str]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def find_column(self, names: Sequence[str]) -> str:
        """Return the first of `names` that is a column.

        Raises:
            DataError: if there is none.
        """
        for name in names:
            if name in self.columns:
                return name
        there = ", ".join(self.columns) or "none"
        raise DataError(f"{self.name}: no column {' or '.join(names)}; it has {there}")

    def read_texts(self, column: str) -> list[str]:
        """Return the texts of a column; the empty text if a row has none.

        Raises:
            DataError: if a value is not text. The message names the row.
        """
        name = self.find_column([column])
        texts = []
        for row in self.rows:
            text = row.get(name)
            if text is not None and not isinstance(text, str):
                raise DataError(f"{row.place}: the {name} is {text!r:.40}; it must be text")
            texts.append(text or "")
        return texts


HeaderRule = Callable[[Sequence[str]], bool]
"""Whether the cells of a first line are names of columns; if not, columns are named 0, 1, …"""


def read_table(path: str, is_header: HeaderRule = bool, *, texts: bool = False) -> Table:
    """Read the rows of a file, whose format is that of its extension (see `FORMATS`).

    Args:
        path: the file.
        is_header: whether the first line of CSV and TSV names the columns; by default it does.
        texts: whether files that end in .txt are read, like .tsv.

    Raises:
        DataError: names the file, the line and what is expected.
        MissingExtraError: if `pyarrow` is needed and not installed.
    """
    if not exists(path):
        raise DataError(f"{path}: there is no such file")
    suffix = get_suffix(path)
    if suffix in (".parquet", ".arrow"):
        return _read_arrow(path, suffix)
    json_readers = {
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".json": _read_json,
    }
    cell_readers = {".csv": _read_csv, ".tsv": _read_tsv}
    if texts:
        cell_readers[".txt"] = _read_tsv
    if suffix in json_readers:
        rows = list(json_readers[suffix](path))
    elif suffix in cell_readers:
        rows = list(cell_readers[suffix](path, is_header))
    else:
        known = (*FORMATS, *([".txt"] if texts else []))
        raise DataError(f"{path}: files of rows end in {', '.join(known)}, or with .gz after it")
    return Table(path, rows, list(rows[0]) if rows else [])


def read_rows(path: str) -> list[FileRow]:
    """Read the rows of a file (see `read_table`)."""
    return read_table(path).rows


def _read_tsv(path: str, is_header: HeaderRule) -> Iterator[FileRow]:
    """Yield the rows of a file with cells separated by tabs, without quotes."""
    cells = ((number, line.split("\t")) for number, line in stream_lines(path) if line)
    return _name_cells(cells, path, is_header)


def _read_csv(path: str, is_header: HeaderRule) -> Iterator[FileRow]:
    """Yield the rows of a file with cells separated by commas, quoted as in RFC 4180."""
    # The limit belongs to the module, not to the reader, and a long text is not an error.
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield from _name_cells(_parse_csv(path), path, is_header)
    finally:
        csv.field_size_limit(limit)


def _parse_csv(path: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in stream_lines(path, ends=True)), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error)
            if "new-line" in reason:
                reason = "a carriage return stands in a cell without quotes; lines end in \\n"
            raise DataError(f"{path}, line {number}: broken CSV ({reason})") from None
        if cells:
            yield number, cells


def _name_cells(
    rows: Iterable[tuple[int, list[str]]], path: str, is_header: HeaderRule
) -> Iterator[FileRow]:
    """Yield rows with the names of the columns, which come from the first row or are numbers."""
    rows = iter(rows)
    first = number, names = next(rows)
    wanted = f"the first line names {len(names)} columns: {', '.join(names):.200}"
    if not is_header(names):
        rows, wanted = chain([first], rows), f"line {number} has {len(names)}"
        names = [str(i) for i in range(len(names))]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise DataError(f"{path}, line {number}: two columns are called {name!r}")
    origin = f"{path}, line"
    for number, cells in rows:
        if len(cells) != len(names):
            count = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
            raise DataError(f"{path}, line {number}: {count}; {wanted}")
        yield FileRow(dict(zip(names, cells, strict=True)), origin, number)


def _read_json_lines(path: str) -> Iterator[FileRow]:
    """Yield the rows of a file with one JSON object per line; blank lines are ignored."""
    origin = f"{path}, line"
    for number, line in stream_lines(path):
        if line.strip():
            yield FileRow(parse_object(line, f"{origin} {number}"), origin, number)


def _read_json(path: str) -> Iterator[FileRow]:
    """Yield the rows of a file with a list of JSON objects, or with one object per line."""
    text = "\n".join(line for _, line in decode_lines(read_bytes(path), path))
    start = _skip_space(text, 0)
    if text[start] != "[":
        yield from _read_json_lines(path)
        return
    origin, number, seen = f"{path}, line", 1, 0
    at = _skip_space(text, start + 1)
    if text[at : at + 1] == "]":
        return
    while True:
        number, seen = number + text.count("\n", seen, at), at
        where = f"{origin} {number}"
        value, at = _decode(text, at, where)
        yield FileRow(_check_object(value, text[seen:at], where), origin, number)
        at = _skip_space(text, at)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            number += text.count("\n", seen, at)
            raise DataError(f"{origin} {number}: broken JSON (a comma or ] must follow the object)")
        at = _skip_space(text, at + 1)
    if text[_skip_space(text, at + 1) :]:
        raise DataError(f"{path}: broken JSON (something follows the list)")


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def parse_object(text: str, where: str) -> dict[str, Any]:
    """Parse one JSON object.

    Raises:
        DataError: if it is not one, a name is repeated, a number is not finite, or a text has half
            of a surrogate pair.
    """
    start = _skip_space(text, 0)
    value, end = _decode(text, start, where)
    if text[_skip_space(text, end) :]:
        raise DataError(f"{where}: broken JSON (something follows the object)")
    return _check_object(value, text, where)


def _decode(text: str, at: int, where: str) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError:
        raise DataError(f"{where}: broken JSON (it is nested too deeply)") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise DataError(f"{where}: broken JSON ({reason})") from None


def _check_object(value: object, text: str, where: str) -> dict[str, Any]:
    """Check that a value that was parsed from `text` is an object whose text can be written."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: {json.dumps(value):.40} is not a JSON object; a row is one")
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: a text has half of a surrogate pair (\\ud800 to \\udfff), which is "
                "not a character"
            ) from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"the name {twice!r} comes twice in an object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_build_object, parse_constant=_refuse_constant)


def _read_arrow(path: str, suffix: str) -> Table:
    """Read a Parquet file, or an Arrow file or stream."""
    import_extra("pyarrow", "datasets", f"reading {path}")
    import pyarrow
    from pyarrow import parquet

    raw = read_bytes(path) if path.endswith(".gz") else b""
    try:
        with pyarrow.BufferReader(raw) if path.endswith(".gz") else pyarrow.OSFile(path) as file:
            found = parquet.read_table(file) if suffix == ".parquet" else _open_arrow(file)
        # A damaged file may contain offsets outside of it, which would crash the process.
        found.validate(full=True)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: it cannot be read as {suffix[1:]} ({reason})") from None
    return convert_arrow(found, path)


def _open_arrow(file: pyarrow.NativeFile) -> pyarrow.Table:
    import pyarrow

    magic = file.read(6)
    file.seek(0)
    if magic == b"ARROW1":
        return pyarrow.ipc.open_file(file).read_all()
    return pyarrow.ipc.open_stream(file).read_all()


_AT_ONCE = 10_000


def convert_arrow(table: pyarrow.Table, name: str) -> Table:
    """Convert an Arrow table to rows, with the names of class labels that `datasets` stores in it.

    Arrow adds the fields that other rows have, as nulls; these are left out (see `drop_nulls`).

    Raises:
        DataError: if two columns have the same name, or a text is not UTF-8.
    """
    columns, origin = table.column_names, f"{name}, row"
    if len(set(columns)) < len(columns):
        raise DataError(f"{name}: two columns have the same name; it has {', '.join(columns)}")
    rows: list[FileRow] = []
    try:
        for batch in table.to_batches(max_chunksize=_AT_ONCE):
            plain = map(drop_nulls, batch.to_pylist())
            rows += [FileRow(row, origin, i) for i, row in enumerate(plain, len(rows))]
    except (ValueError, OverflowError) as error:
        raise DataError(f"{name}: a value cannot be read ({error})") from None
    return Table(name, rows, columns, _find_classes(table.schema.metadata))


def drop_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without the fields that are None inside of its values.

    All objects of a column of Arrow, such as the arguments of tools, have the same fields; those
    that one of them was not given are None.
    """
    return {
        name: _drop_nulls(value) if isinstance(value, (dict, list)) else value
        for name, value in row.items()
    }


def _drop_nulls(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _drop_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        return [_drop_nulls(part) for part in value]
    return value


def _find_classes(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the names of class labels by column, from the schema that `datasets` writes."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        items = list(features.items())
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    found = {}
    for column, feature in items:
        if isinstance(feature, list):  # how older versions write a list
            feature = feature[0] if feature else {}
        while isinstance(feature, dict) and "names" not in feature and "feature" in feature:
            feature = feature["feature"]
        if isinstance(feature, dict) and isinstance(feature.get("names"), list):
            found[column] = [str(name) for name in feature["names"]]
    return found
