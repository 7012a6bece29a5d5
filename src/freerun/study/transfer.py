"""Folders as parts of their files, to be sent to a machine that does not share them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from freerun.errors import WriteError
from freerun.training.folders import delete_folder, flush, get_temporary_path, sweep

PART = 2**26
"""The maximum number of bytes of a part."""

Part = tuple[str, bytes]
"""The path of a file in its folder, and the next bytes of it."""


def read_folder(folder: Path, size: int = PART) -> Iterator[Part]:
    """Yield all files of a folder in parts; nothing if there is none.

    Args:
        folder: the folder.
        size: the maximum number of bytes of a part.
    """
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as file:
            name = path.relative_to(folder).as_posix()
            yield name, file.read(size)
            while part := file.read(size):
                yield name, part


def write_folder(parts: Iterable[Part], folder: Path) -> None:
    """Write files in place of those of a folder, all of them or none.

    Raises:
        WriteError: if they cannot be written.
    """
    written = get_temporary_path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        for name, part in parts:
            path = written / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(part)
        if written.exists():
            flush(written)
            if folder.exists():
                delete_folder(folder)
            written.rename(folder)
    except OSError as error:
        shutil.rmtree(written, ignore_errors=True)
        raise WriteError(error.errno, error.strerror, str(folder)) from None
