"""Digests of the files of a saved model, by which damage is noticed when they are read.

SHA256SUMS has the format of the program sha256sum, which checks it, too: `sha256sum -c SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from freerun.errors import CheckpointError
from freerun.files import write

DIGESTS = "SHA256SUMS"
_UNLISTED = {DIGESTS, "README.md", "freerun.json"}
"""Files without a digest: a model card may be edited, and the record has its own digest."""
_RESUMED = (".pt", ".pth")
"""Files that are read only on resuming: states of optimizers and random generators."""
_MODEL_FILES = ("*.safetensors", "*.index.json", "adapter_config.json", "config.json")
"""Files that change the model if they are added to a folder."""
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\\][^\\]*)")

_checked: set[object] = set()
"""Folders that were checked, with the sizes and times of their files: each is read only once."""


def is_part_of_model(path: Path) -> bool:
    """Return whether a file is one of a saved model, so that nothing else may be written to it."""
    folder, name = path.parent, path.name
    if (folder / DIGESTS).is_file():
        listed = {DIGESTS, *_UNLISTED, *(name for name, _ in _read_digests(folder / DIGESTS))}
    elif (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
        listed = {found.name for found in folder.glob("*token*.json")} | {"generation_config.json"}
    else:
        return False
    return name in listed or any(fnmatch(name, pattern) for pattern in _MODEL_FILES)


def compute_digest(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def write_digests(folder: Path) -> None:
    """Write the digests of all files in a folder, once they are complete.

    Raises:
        WriteError: if they cannot be written.
    """
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in _UNLISTED
    )
    lines = [f"{compute_digest(folder / name)}  {name}\n" for name in names]
    write(folder / DIGESTS, "".join(lines))


def check_digests(folder: str | Path, *, whole: bool = False) -> None:
    """Check that the files of a folder are those that were saved, if it contains digests.

    Args:
        folder: the folder. Without digests, as written by another program, it is not checked.
        whole: whether to also check the files that are read only on resuming.

    Raises:
        CheckpointError: if a file is missing, was changed, or was added to the model. The message
            names it.
    """
    folder = Path(folder)
    if not (folder / DIGESTS).is_file():
        return
    listed = {
        name: digest
        for name, digest in _read_digests(folder / DIGESTS)
        if whole or not name.endswith(_RESUMED)
    }
    for pattern in _MODEL_FILES:
        for path in folder.glob(pattern):
            if path.name not in listed:
                raise CheckpointError(
                    f"{path}: it does not belong to the model, as {DIGESTS} does not list it; "
                    f"delete {DIGESTS} if it was added on purpose"
                )
    for name in listed:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: it is missing, but {DIGESTS} lists it")
    status = {name: (folder / name).stat() for name in listed}
    key = tuple(
        (folder / n, listed[n], s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in status.items()
    )
    if key in _checked:
        return
    for name, digest in listed.items():
        try:
            found = compute_digest(folder / name)
        except OSError as error:
            raise CheckpointError(f"{folder / name}: cannot be read ({error.strerror})") from None
        if found != digest:
            raise CheckpointError(
                f"{folder / name}: it was damaged or changed after it was saved: its SHA-256 is "
                f"not that in {DIGESTS}; delete {DIGESTS} if the change was intended"
            )
    _checked.add(key)


def _read_digests(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the names and digests in SHA256SUMS."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    if not lines:
        raise CheckpointError(f"{path}: it is empty")
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or ".." in Path(match[2]).parts:
            raise CheckpointError(
                f"{path}, line {number}: it must be a SHA-256, two spaces and the name of a file"
            )
        yield match[2], match[1]
