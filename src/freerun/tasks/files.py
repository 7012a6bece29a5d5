"""Reading text files, and writing whole ones."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from freerun.errors import WriteError
from freerun.tasks.base import DataError

Line = tuple[int, str]
"""A line of a file and its number, counted from 1."""


def read_lines(path: str) -> Iterator[Line]:
    r"""The lines of a text file in UTF-8, plain or gzipped, with their numbers from 1.

    Lines end in \n or \r\n, which is left out, as is a byte order mark.

    Raises:
        DataError: where there is no such file, it is empty, its gzip data is broken, or a line is
            not UTF-8.
    """
    return decode_lines(read_bytes(path), path)


def read_bytes(path: str) -> bytes:
    """The contents of a file, unpacked where it is gzipped.

    Raises:
        DataError: where there is no such file, or its gzip data is broken.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return unpacked(raw, path)


def unpacked(raw: bytes, name: str) -> bytes:
    """`raw`, unpacked where it is gzipped.

    Raises:
        DataError: where the gzip data is broken.
    """
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: broken gzip data ({error})") from None


def decode_lines(raw: bytes, name: str) -> Iterator[Line]:
    """The lines of `raw`, the contents of a file called `name`.

    Raises:
        DataError: where there is nothing, or a line is not UTF-8.
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
class Block:
    """Lines that stand together, without the blank ones around them."""

    lines: list[Line]

    @property
    def text(self) -> list[str]:
        """The lines without their numbers."""
        return [line for _, line in self.lines]


def blocks(lines: Iterable[Line]) -> list[Block]:
    """The groups of lines between blank ones."""
    found: list[list[Line]] = [[]]
    for number, line in lines:
        if line.strip():
            found[-1].append((number, line))
        elif found[-1]:
            found.append([])
    return [Block(group) for group in found if group]


def read_archive(path: str) -> dict[str, bytes]:
    """The contents of the files in a zip archive, by their names in it.

    Raises:
        DataError: where there is no such file, or it is no zip archive.
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
    """Write `text` to `path` as a whole: whoever reads it meets the old text or the new.

    Raises:
        WriteError: where it cannot be written.
    """
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def writing(path: str) -> Iterator[Path]:
    """Another name for `path` to write it under, which it takes the place of in the end.

    Raises:
        WriteError: where it cannot be written.
    """
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), path) from error
    finally:
        temporary.unlink(missing_ok=True)
