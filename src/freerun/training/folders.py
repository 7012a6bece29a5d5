"""Atomic folders, complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from freerun.digests import DIGESTS, check_digests, write_digests
from freerun.errors import CheckpointError
from freerun.training.record import RECORD_FILE, Record

_LOGGER = logging.getLogger(__name__)
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json")


def checkpoints(output: Path) -> list[Path]:
    """List the complete checkpoints in `output`, the oldest first."""
    found = [path for path in output.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=parse_update)


def parse_update(checkpoint: Path) -> int:
    """Parse the update after which a checkpoint was written from its name."""
    match = _CHECKPOINT.fullmatch(checkpoint.name)
    if match is None:
        raise CheckpointError(f"{checkpoint}: a checkpoint is called checkpoint-UPDATE")
    return int(match[1])


def check_not_file(output: Path) -> None:
    """Check that `output` is not a file.

    Raises:
        CheckpointError: if it is.
    """
    if output.is_file():
        raise CheckpointError(f"{output}: it is a file; choose another output directory")


def find_newest_checkpoint(output: Path) -> Path | None:
    """Return the newest complete checkpoint in `output`, if there is one."""
    found = checkpoints(output)
    return found[-1] if found else None


def find_intact_checkpoint(output: Path) -> Path | None:
    """Return the newest checkpoint in `output` that is not damaged; None if there are none.

    A warning names the damaged files of newer ones.

    Raises:
        CheckpointError: if all are damaged. The message names the newest.
    """
    faults = []
    for folder in reversed(checkpoints(output)):
        try:
            check_digests(folder, whole=True)
            Record.read(folder / RECORD_FILE)  # which has a digest of its own
        except CheckpointError as error:
            faults.append(str(error))
        else:
            for fault in faults:
                _LOGGER.warning("%s; going on from %s", fault, folder.name)
            return folder
    if not faults:
        return None
    raise CheckpointError(
        f"{faults[0]}; there is no intact checkpoint to resume from: delete those in {output} to "
        "start over"
    )


_locked: set[tuple[int, int]] = set()
"""The folders that this process has locked, by device and number."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Create a folder, and keep other processes from writing to it inside the block.

    The lock is the operating system's, on the folder itself: it creates no file, and ends with the
    process, even if that is killed. A process may lock a folder several times.

    Raises:
        CheckpointError: if another process has locked it, or it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot write there ({error.strerror})") from None
    status = os.fstat(handle)
    key = status.st_dev, status.st_ino
    new = key not in _locked
    try:
        if new:
            _lock(handle, folder)
            _locked.add(key)
        yield
    finally:
        if new:
            _locked.discard(key)
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CheckpointError(
            f"{folder}: another process is writing to it; wait until that has ended, or choose "
            "another output directory"
        ) from None
    except OSError:
        _LOGGER.warning("%s: its file system has no locks; start no other process on it", folder)


def check_unlocked(folder: Path) -> None:
    """Check that no other process has locked a folder, which may not exist.

    Raises:
        CheckpointError: if one has.
    """
    if folder.is_dir():
        with lock(folder):
            pass


def rotate(output: Path, limit: int | None, best: Path | None) -> None:
    """Delete the oldest checkpoints beyond `limit`, but never the best or the newest."""
    found = checkpoints(output)
    kept = {found[-1]} | ({best} if best in found else set()) if found else set()
    spare = [path for path in found if path not in kept]
    surplus = 0 if limit is None else len(found) - max(limit, len(kept))
    for path in spare[: max(surplus, 0)]:
        delete_folder(path)


def delete_folder(folder: Path) -> None:
    """Rename a folder and delete it, so that an interrupted deletion leaves no partial folder."""
    doomed = get_temporary_path(folder, "old")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def delete_checkpoints(output: Path) -> None:
    """Delete all checkpoints of a finished run, from which nothing is resumed."""
    for folder in checkpoints(output):
        delete_folder(folder)


def sweep(output: Path) -> None:
    """Delete folders that were partially written or deleted."""
    for path in (*output.glob(".*.new.tmp"), *output.glob(".*.old.tmp")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def get_temporary_path(folder: Path, purpose: str = "new") -> Path:
    """Return the temporary name under which a folder is written."""
    return folder.with_name(f".{folder.name}.{purpose}.tmp")


def finish_folder(written: Path, folder: Path) -> None:
    """Write the digests of a folder, flush it to disk, and rename it to its final name."""
    write_digests(written)
    flush(written)
    if folder.exists():
        delete_folder(folder)
    written.rename(folder)
    _flush(folder.parent)


@contextmanager
def replace_model(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder for a model, which then replaces the model in `folder`.

    Its files are moved once all are written; files of another kind of model are deleted.
    """
    written = get_temporary_path(folder / "model")
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    yield written
    write_digests(written)
    flush(written)
    for pattern in _MODEL_FILES:
        for path in folder.glob(pattern):
            if not (written / path.name).exists():
                path.unlink()
    move(written, folder)


def move(written: Path, folder: Path, last: str | None = None) -> None:
    """Move all files of a folder to another one: the digests after all others, then `last`."""
    order = (DIGESTS, last)
    for path in sorted(written.iterdir(), key=lambda path: (path.name in order, path.name == last)):
        path.replace(folder / path.name)
    written.rmdir()


def flush(folder: Path) -> None:
    """Flush all files of a folder to disk."""
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def report_save_errors(folder: Path, what: str) -> Iterator[None]:
    """Convert errors while saving to a `CheckpointError`, and delete partially written files.

    Args:
        folder: the folder to write.
        what: the contents of the folder, for messages.

    Raises:
        CheckpointError: if it cannot be written, for example for lack of space or permission.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(get_temporary_path(folder), ignore_errors=True)
        intact = find_newest_checkpoint(folder.parent)
        rest = f" {intact.name} is intact; run again to resume from it" if intact else ""
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(
            f"{folder.parent}: cannot save {what} ({reason}): is the disk full?{rest}"
        ) from error
