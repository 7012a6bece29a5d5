"""Read JSON files with checks, and write files atomically."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from freerun.errors import CheckpointError, WriteError

MAX_BYTES, MAX_DEPTH = 1 << 28, 50
"""The largest size of a JSON file, and how deeply it may be nested."""
_TYPES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
}
_SECONDS_FOR_READER = 5.0
"""The number of seconds to wait for the reader of a named pipe."""

_MAX_LINKS = 40


def read_json(path: str | Path, error: type[ValueError] = CheckpointError) -> dict[str, Any]:
    """Read the object in a JSON file.

    Args:
        path: the file.
        error: the class of the error to raise.

    Raises:
        CheckpointError: or `error`, if there is no such file, or it does not contain a JSON object.
            The message names the file.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise error(f"{path.parent}: there is no such directory")
    if not path.is_file():
        hint = f"; is {path.parent} a checkpoint?" if error is CheckpointError else ""
        raise error(f"{path}: there is no such file{hint}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise error(f"{path}: it is larger than {MAX_BYTES >> 20} MiB, the maximum")
        text = path.read_text(encoding="utf-8")
        if text.startswith("\ufeff"):  # which transformers does not read, either
            raise error(f"{path}: it begins with a byte order mark; save it as UTF-8 without one")
        found = json.loads(text)
    except RecursionError:
        found = None
        deep = True
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror})") from None
    except ValueError as fault:
        if isinstance(fault, error):
            raise
        raise error(f"{path}: not JSON ({fault})") from None
    else:
        deep = _is_deep(found)
    if deep:
        raise error(f"{path}: it is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(found, dict):
        raise error(f"{path}: it must hold a JSON object")
    return found


def _is_deep(value: object) -> bool:
    """Return whether a value is nested too deeply; this function itself does not recurse."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        lists = [each.values() if isinstance(each, dict) else each for each in level]
        level = [inner for each in lists for inner in each if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def check_json(
    value: object, kind: object, where: str, error: type[ValueError] = CheckpointError
) -> None:
    """Check the type of a value that was read from a JSON file.

    Args:
        value: the value.
        kind: its type: a scalar, `list[...]`, `dict[str, ...]`, a union, a TypedDict, a dataclass
            whose fields are all there, or Any.
        where: what to call it in messages, such as `freerun.json: results`.
        error: the class of the error to raise.

    Raises:
        CheckpointError: or `error`, if it has another type. The message names the field and the
            expected type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin in (Union, UnionType):
        if any(_is_scalar(value, each) for each in arguments):
            return
        rest = [each for each in arguments if each not in _TYPES]
        if rest:
            check_json(value, rest[0], where, error)
            return
        wanted = " or ".join(_TYPES[each] for each in arguments)
    elif kind in _TYPES:
        if _is_scalar(value, kind):
            return
        wanted = _TYPES[kind]
    elif origin is list:
        if isinstance(value, list):
            for number, item in enumerate(value):
                check_json(item, arguments[0], f"{where}[{number}]", error)
            return
        wanted = "a list"
    else:
        if isinstance(value, dict):
            _check_fields(value, kind, where, error)
            return
        wanted = "an object"
    raise error(f"{where} is {shorten(value)}; it must be {wanted}")


def _check_fields(
    value: Mapping[str, Any], kind: object, where: str, error: type[ValueError]
) -> None:
    """Check the values of an object, and its names if they are known."""
    if get_origin(kind) is dict:
        kinds = dict.fromkeys(value, get_args(kind)[1])
    elif dataclasses.is_dataclass(kind) or is_typeddict(kind):
        kinds = get_type_hints(kind)
        missing = [name for name in kinds if name not in value]
        unknown = sorted(value.keys() - kinds.keys())
        if missing or unknown:
            fault = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is unknown"
            raise error(f"{where}: the field {fault}")
    else:
        raise TypeError(f"{kind} is not a JSON type")
    for name, inner in kinds.items():
        check_json(value[name], inner, f"{where}.{name}", error)


def _is_scalar(value: object, kind: object) -> bool:
    # A bool is an int to Python, and a whole number is a number.
    return kind in _TYPES and (type(value) is kind or (kind is float and type(value) is int))


def format_json(value: object) -> str:
    """Return a value as the contents of a JSON file.

    JSON has no NaN and no infinity: numbers that are not finite become null. What is neither a
    number, text, a list nor an object is written as text.
    """
    return json.dumps(_remove_nan(value), indent=1, ensure_ascii=False, default=str) + "\n"


def _remove_nan(value: object) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _remove_nan(inner) for name, inner in value.items()}
    return [_remove_nan(inner) for inner in value] if isinstance(value, list | tuple) else value


def restore_nan(value: object) -> Any:
    """Return numbers that were read from a JSON file, with NaN for null, also within lists."""
    if isinstance(value, Mapping):
        return {name: math.nan if inner is None else inner for name, inner in value.items()}
    return [restore_nan(inner) for inner in value] if isinstance(value, list) else value


def shorten(value: object) -> str:
    """Format a JSON value for a message, in at most 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def write(path: str | Path, contents: str | bytes) -> None:
    """Write a file: a regular file is replaced as a whole or not at all.

    Links are followed, and the mode and the owner of a file that is replaced are kept. Pipes,
    devices and other files that are not regular, such as /dev/stdout, and files with several names
    (hard links) are written directly; a named pipe must be opened by its reader within seconds.

    Args:
        path: the file.
        contents: what to write; text is encoded in UTF-8.

    Raises:
        WriteError: if it cannot be written. The message names the file.
    """
    data = contents.encode("utf-8") if isinstance(contents, str) else contents
    try:
        target = _follow_links(path)
        if isinstance(target, int):
            # A copy of the descriptor shares its position; a new one would start at the beginning.
            sys.stdout.flush()
            sys.stderr.flush()
            with os.fdopen(os.dup(target), "wb") as file:
                file.write(data)
            return
        status = target.stat() if target.exists() else None
        if status is not None and stat.S_ISFIFO(status.st_mode):
            _write_pipe(target, data)
        elif status is not None and (not stat.S_ISREG(status.st_mode) or status.st_nlink > 1):
            target.write_bytes(data)
        else:
            _replace(target, data, status)
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error


def _write_pipe(target: Path, data: bytes) -> None:
    """Write to a named pipe, whose reader may still have to open it."""
    deadline = time.monotonic() + _SECONDS_FOR_READER
    while True:
        try:
            handle = os.open(target, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def _follow_links(path: str | Path) -> Path | int:
    """Return the file that a path leads to, or the number of an open descriptor of this process."""
    own = re.compile(rf"/proc/{os.getpid()}/fd/(\d+)")
    target = Path(path)
    for _ in range(_MAX_LINKS):
        target = Path(os.path.realpath(target.parent), target.name)
        if found := own.fullmatch(str(target)):
            return int(found[1])
        if not target.is_symlink():
            return target
        target = target.parent / target.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _replace(target: Path, data: bytes, status: os.stat_result | None) -> None:
    """Replace a regular file, or create it."""
    if status is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new.tmp")
    mode = 0o666 if status is None else stat.S_IMODE(status.st_mode)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as file:
            if status is not None:
                os.fchown(handle, status.st_uid, status.st_gid)
                os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(handle)
        temporary.replace(target)
    except PermissionError:
        if status is None:
            raise
        # The file is another user's, or only its folder is protected: it cannot be replaced.
        target.write_bytes(data)
    finally:
        with suppress(OSError):
            temporary.unlink()
