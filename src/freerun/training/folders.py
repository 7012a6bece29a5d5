"""Atomic folders, complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from freerun.errors import CheckpointError

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_OF_A_MODEL = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json")


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


def no_file(output: Path) -> None:
    """Check that `output` is not a file.

    Raises:
        CheckpointError: if it is.
    """
    if output.is_file():
        raise CheckpointError(f"{output}: it is a file; choose another output directory")


def newest(output: Path) -> Path | None:
    """Return the newest complete checkpoint in `output`, if there is one."""
    found = checkpoints(output)
    return found[-1] if found else None


def rotate(output: Path, limit: int | None, best: Path | None) -> None:
    """Delete the oldest checkpoints down to `limit`, but never the best nor the newest."""
    found = checkpoints(output)
    kept = {found[-1]} | ({best} if best in found else set()) if found else set()
    spare = [path for path in found if path not in kept]
    surplus = 0 if limit is None else len(found) - max(limit, len(kept))
    for path in spare[: max(surplus, 0)]:
        discard(path)


def discard(folder: Path) -> None:
    """Delete a folder, renaming it first, so that an interrupted deletion leaves no half folder."""
    doomed = temporary(folder, "old")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def sweep(output: Path) -> None:
    """Delete folders that were left half written or half deleted."""
    for path in (*output.glob(".*.new.tmp"), *output.glob(".*.old.tmp")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def temporary(folder: Path, purpose: str = "new") -> Path:
    """Return the temporary name under which a folder is written."""
    return folder.with_name(f".{folder.name}.{purpose}.tmp")


def publish(written: Path, folder: Path) -> None:
    """Flush a folder to disk, and rename it to its final name atomically."""
    flush(written)
    if folder.exists():
        discard(folder)
    written.rename(folder)
    _flush(folder.parent)


@contextmanager
def renewing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder for a model, which then replaces the model in `folder`.

    Its files are moved once all are written; files of another kind of model are deleted.
    """
    written = temporary(folder / "model")
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    yield written
    flush(written)
    for pattern in _OF_A_MODEL:
        for path in folder.glob(pattern):
            if not (written / path.name).exists():
                path.unlink()
    move(written, folder)


def move(written: Path, folder: Path, last: str | None = None) -> None:
    """Move all files of a folder to another one, the file `last` after all others."""
    for path in sorted(written.iterdir(), key=lambda path: path.name == last):
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
def saving(folder: Path, what: str) -> Iterator[None]:
    """Turn errors while saving into a `CheckpointError`, and delete half-written files.

    Args:
        folder: the folder to write.
        what: what the folder contains, for the message.

    Raises:
        CheckpointError: if it cannot be written, for example for lack of space or permission.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(temporary(folder), ignore_errors=True)
        intact = newest(folder.parent)
        rest = f" {intact.name} is intact; run again to resume from it" if intact else ""
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(
            f"{folder.parent}: cannot save {what} ({reason}): is the disk full?{rest}"
        ) from error
