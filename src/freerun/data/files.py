"""Files of rows, read by the `datasets` library."""

from __future__ import annotations

import csv
import gzip
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freerun.errors import DataError, WriteError
from freerun.imports import import_extra

Line = tuple[int, str]
"""A line of a file and its number, counted from 1."""


def read_lines(path: str) -> Iterator[Line]:
    r"""Read the lines of a text file in UTF-8, plain or gzipped, with their numbers from 1.

    Lines end in \n or \r\n, which is left out, as is a byte order mark.

    Raises:
        DataError: if there is no such file, it is empty, its gzip data is broken, or a line is
            not UTF-8.
    """
    return decode_lines(read_bytes(path), path)


def read_bytes(path: str) -> bytes:
    """Read a file, and decompress it if it is gzipped.

    Raises:
        DataError: if there is no such file, or its gzip data is broken.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return decompress(raw, path)


def decompress(raw: bytes, name: str) -> bytes:
    """Decompress `raw` if it is gzipped.

    Raises:
        DataError: if the gzip data is broken.
    """
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: broken gzip data ({error})") from None


def decode_lines(raw: bytes, name: str) -> Iterator[Line]:
    """Decode the lines of `raw`, the contents of a file called `name`.

    Raises:
        DataError: if there is nothing, or a line is not UTF-8.
    """
    if not raw.strip():
        raise DataError(f"{name}: the file is empty")
    rows = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not rows[-1]:
        rows.pop()
    for number, row in enumerate(rows, 1):
        try:
            yield number, row.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}: byte 0x{row[error.start]:02x} at column "
                f"{error.start + 1} is not UTF-8; save the file as UTF-8"
            ) from None


@dataclass(frozen=True)
class LineGroup:
    """Lines that stand together, without the blank ones around them."""

    lines: list[Line]

    @property
    def text(self) -> list[str]:
        """The lines without their numbers."""
        return [line for _, line in self.lines]


def group_lines(lines: Iterable[Line]) -> list[LineGroup]:
    """Group lines by the blank ones between them."""
    found: list[list[Line]] = [[]]
    for number, line in lines:
        if line.strip():
            found[-1].append((number, line))
        elif found[-1]:
            found.append([])
    return [LineGroup(group) for group in found if group]


def read_archive(path: str) -> dict[str, bytes]:
    """Read the files of a zip archive, by their names in it.

    Raises:
        DataError: if there is no such file, or it is no zip archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            return {name: archive.read(name) for name in names}
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: broken zip archive ({error})") from None


def write_text(path: str, text: str) -> None:
    """Write `text` to `path` atomically.

    Raises:
        WriteError: if it cannot be written.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def write_atomically(path: str) -> Iterator[Path]:
    """Yield a temporary name to write to, which is renamed to `path` at the end.

    Raises:
        WriteError: if it cannot be written.
    """
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), path) from error
    finally:
        temporary.unlink(missing_ok=True)


_SPLITS = {
    "train": ("train",),
    "dev": ("validation", "dev", "valid", "val"),
    "test": ("test",),
}
_ID = re.compile(r"[\w-]+(\.\d[\w-]*)*(/[\w-]+(\.\d[\w-]*)*)?")


def is_dataset(data: str) -> bool:
    """Return whether `data` is a folder, or may be the id of a dataset on the hub."""
    path = Path(data)
    return path.is_dir() or (not path.exists() and _ID.fullmatch(data) is not None)


def load_splits(data: str, subset: str | None = None) -> dict[str, Any]:
    """Load the splits of a dataset, named train, dev and test; some may be missing.

    Args:
        data: an id, or a folder.
        subset: the part of the dataset, for those that have several.

    Raises:
        DataError: if it cannot be loaded or has no training split.
        MissingExtraError: if `datasets` is not installed.
    """
    library = import_extra("datasets", "datasets", f"reading {data} as a dataset")
    folder = Path(data)
    saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    if saved and subset is not None:
        raise DataError(f"{data}: it was saved as it is, and has no subset {subset!r}")
    names = [data] if subset is None else [data, subset]
    try:
        loaded = library.load_from_disk(data) if saved else library.load_dataset(*names)
    except (OSError, ValueError, library.exceptions.DatasetsError) as error:
        known = "cannot be loaded as a dataset"
        unknown = "no file, no folder and no dataset that can be loaded"
        message = f"{data}: {known if folder.exists() else unknown} ({error})"
        raise DataError(message) from None
    if isinstance(loaded, library.Dataset):
        loaded = {"train": loaded}
    splits = {
        split: loaded[name] for split, names in _SPLITS.items() for name in names if name in loaded
    }
    if "train" not in splits:
        raise DataError(f"{data}: no split is called train; it has {', '.join(loaded)}")
    return splits


def find_column(split: Any, names: Sequence[str], where: str) -> str:
    """Return the first of `names` that is a column of `split`.

    Raises:
        DataError: if there is none.
    """
    for name in names:
        if name in split.column_names:
            return name
    wanted = " or ".join(names)
    raise DataError(f"{where}: no column {wanted}; it has {', '.join(split.column_names)}")


FORMATS = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


def read_splits(data: str, subset: str | None = None) -> dict[str, Any]:
    """Read the splits of a dataset, or of a file, which is all train.

    Args:
        data: a file (.jsonl, .json, .csv, .tsv, .parquet; also .gz behind it), a folder, or an id
            on the Hugging Face hub.
        subset: the part of a dataset.

    Raises:
        DataError: if it cannot be read.
        MissingExtraError: if `datasets` is not installed.
    """
    if is_dataset(data):
        return load_splits(data, subset)
    if subset is not None:
        raise DataError(f"{data}: it is a file, and has no subset {subset!r}")
    return {"train": read_rows(data)}


def read_rows(path: str) -> Any:
    """Read the rows of a file as a Dataset of the `datasets` library.

    Raises:
        DataError: if there is no such file, its name ends in none of `FORMATS`, or it cannot be
            read.
        MissingExtraError: if `datasets` is not installed.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: there is no such file")
    name = path.removesuffix(".gz")
    kind = FORMATS.get(Path(name).suffix)
    if kind is None:
        raise DataError(f"{path}: files of rows end in {', '.join(FORMATS)}, or .gz behind it")
    library = import_extra("datasets", "datasets", f"reading {path}")
    settings: dict[str, Any] = {}
    if kind == "csv":
        settings = _plain(path, "\t" if name.endswith(".tsv") else ",", library)
    try:
        return library.load_dataset(kind, data_files={"train": path}, split="train", **settings)
    except (OSError, ValueError, library.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise DataError(f"{path}: it cannot be read as {kind} ({reason})") from None


def _plain(path: str, separator: str, library: Any) -> dict[str, Any]:
    """Return settings that keep all cells text, even those that look like numbers or nothing."""
    _, header = next(read_lines(path))
    names = next(csv.reader([header], delimiter=separator))
    features = library.Features({name: library.Value("string") for name in names})
    return {"sep": separator, "features": features, "keep_default_na": False}
