"""Read the settings of a YAML file, with their lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from freerun.data.files import decode_lines
from freerun.errors import DataError
from freerun.yaml_reader import YamlError, compose, get_line, get_value

MAX_BYTES = 100_000
CONFIG_EXAMPLE = "training: {updates: 1000}"


def read_config(path: str, whole: Collection[str] = ()) -> dict[str, tuple[Any, int]]:
    """Read a YAML file.

    A mapping such as `training: {updates: 1000}` groups settings, which are named as on the command
    line: `training.updates`. `model: {kind: causal}` is the same as `model: causal`.

    Args:
        path: the file.
        whole: settings whose value is a mapping, not a group.

    Returns:
        The value and the line of each setting by its name, and those of empty groups.

    Raises:
        DataError: if the file cannot be read, is not YAML, is not a mapping, or repeats a key.
    """
    text = _read_text(path)
    try:
        root = compose(text)
    except YamlError as error:
        where = path if error.line is None else f"{path}, line {error.line}"
        raise DataError(f"{where}: {error}") from None
    if not isinstance(root, yaml.MappingNode):
        raise DataError(f"{path}: it must be a mapping of settings, such as {CONFIG_EXAMPLE}")
    found: dict[str, tuple[Any, int]] = {}
    for name, line, value in _list_settings(root, whole):
        if name in found:
            also = f"it is already set on line {found[name][1]}"
            raise DataError(f"{path}, line {line}: {name} is set twice; {also}")
        found[name] = (get_value(value), line)
    return found


def _list_settings(
    root: yaml.MappingNode, whole: Collection[str]
) -> Iterator[tuple[str, int, yaml.Node]]:
    """Yield the name, the line and the value of every setting."""
    for key, value in root.value:
        if key.value in whole or not isinstance(value, yaml.MappingNode) or not value.value:
            yield key.value, get_line(key), value
            continue
        for inner, item in value.value:
            name = f"{key.value}.{inner.value}"
            yield "model" if name == "model.kind" else name, get_line(inner), item


def _read_text(path: str) -> str:
    """Read a file of settings, after checking that it is a regular file of moderate size."""
    file = Path(path)
    if not file.is_file():
        reason = "it is not a regular file" if file.exists() else "there is no such file"
        raise DataError(f"{path}: {reason}")
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path}: it has {size:,} bytes; settings have at most {MAX_BYTES:,}")
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return "\n".join(line for _, line in decode_lines(raw, path))
