"""Text files, plain and gzipped, and zip archives."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from freerun.errors import DataError

Line = tuple[int, str]
"""A line of a file and its number, counted from 1."""

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"

SMALL, RATIO = 1 << 28, 200
"""The maximum size of decompressed data: the larger of this size, and this multiple of the file."""


def get_suffix(path: str) -> str:
    """Return the extension of a file in lower case, as in `.tsv`; .gz may follow in its name."""
    return Path(path.removesuffix(".gz")).suffix.lower()


def read_lines(path: str) -> Iterator[Line]:
    r"""Read the lines of a text file in UTF-8, plain or gzipped, with their numbers from 1.

    Lines end in \n or \r\n, which is removed, as is a byte order mark.

    Raises:
        DataError: if there is no such file, it is empty, its gzip data is broken, or a line is
            not UTF-8.
    """
    return decode_lines(read_bytes(path), path)


def stream_lines(path: str, *, ends: bool = False) -> Iterator[Line]:
    """Read the lines of a file as `read_lines` does, one by one if it is not gzipped.

    Args:
        path: the file.
        ends: whether to keep the ends of lines.
    """
    try:
        _check_kind(path)
        with Path(path).open("rb") as file:
            if file.peek(2)[:2] == _GZIP:
                yield from _decode_all(io.BytesIO(decompress(file.read(), path)), path, ends)
            else:
                yield from _decode_all(file, path, ends)
    except OSError as error:
        raise _unreadable(path, error) from None


def read_bytes(path: str) -> bytes:
    """Read a file, and decompress it if it is gzipped.

    Raises:
        DataError: if there is no such file, or its gzip data is broken.
    """
    try:
        _check_kind(path)
        raw = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    return decompress(raw, path)


def _check_kind(path: str) -> None:
    """Check that a file is not a device, which may be endless."""
    mode = os.stat(path).st_mode
    if path != "/dev/stdin" and (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
        raise DataError(f"{path}: it is a device; name a file")


def _unreadable(path: str, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: there is no such file")
    return DataError(f"{path}: cannot be read ({error.strerror})")


def decompress(raw: bytes, name: str) -> bytes:
    """Decompress `raw` if it is gzipped.

    Raises:
        DataError: if the gzip data is broken, or becomes too large.
    """
    if not raw.startswith(_GZIP):
        return raw
    limit = max(SMALL, RATIO * len(raw))
    try:
        with gzip.open(io.BytesIO(raw)) as file:
            found = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: broken gzip data ({error})") from None
    if len(found) > limit:
        raise _too_large(name)
    return found


def _too_large(name: str) -> DataError:
    return DataError(
        f"{name}: its contents are more than {RATIO} times as large as the file, and more than "
        f"{SMALL >> 20} MiB; decompress it yourself if that is right"
    )


def decode_lines(raw: bytes | Iterable[bytes], name: str) -> Iterator[Line]:
    """Decode the lines of `raw`: the contents of a file called `name`, or an iterator of its lines.

    Raises:
        DataError: if there is nothing, or a line is not UTF-8 or has a NUL.
    """
    return _decode_all(io.BytesIO(raw) if isinstance(raw, bytes) else raw, name, ends=False)


def _decode_all(rows: Iterable[bytes], name: str, ends: bool) -> Iterator[Line]:
    blank = True
    for number, row in enumerate(rows, 1):
        if number == 1:
            row = row.removeprefix(_BOM)
        if not ends:
            row = row.removesuffix(b"\n").removesuffix(b"\r")
        if b"\0" in row:
            raise DataError(
                f"{name}, line {number}: there is a NUL at column {row.index(0) + 1}; save the "
                "file as text, in UTF-8"
            )
        blank = blank and not row.strip()
        try:
            yield number, row.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}: byte 0x{row[error.start]:02x} at column "
                f"{error.start + 1} is not UTF-8; save the file as UTF-8"
            ) from None
    if blank:
        raise DataError(f"{name}: the file is empty")


@dataclass(frozen=True)
class LineGroup:
    """Consecutive lines, without the blank lines around them."""

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


def list_archive(path: str) -> list[str]:
    """List the names of the files in a zip archive.

    Raises:
        DataError: if there is no such file, or it is not a zip archive.
    """
    with _open_archive(path) as archive:
        return [entry.filename for entry in archive.infolist() if not entry.is_dir()]


@contextmanager
def _open_archive(path: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: broken zip archive ({error})") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def read_archive(path: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Read files of a zip archive, by their names in it. Nothing is written.

    Args:
        path: the archive.
        wanted: whether to read the file with a name.

    Raises:
        DataError: if there is no such file, it is not a zip archive, or a file in it is encrypted,
            repeated or too large.
    """
    found: dict[str, bytes] = {}
    with _open_archive(path) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if entry.is_dir() or not wanted(name):
                continue
            if name in found:
                raise DataError(f"{path}: it holds two files called {name}")
            if entry.flag_bits & 1:
                raise DataError(f"{path}: {name} in it is encrypted; extract it yourself")
            if entry.file_size > max(SMALL, RATIO * entry.compress_size):
                raise _too_large(f"{path}: {name}")
            found[name] = archive.read(entry)
    return found
