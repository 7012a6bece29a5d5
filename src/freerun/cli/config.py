"""Reads the settings of a YAML file, each with the line it is on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml

from freerun.data import DataError
from freerun.data.files import read_lines

EXAMPLE = "training: {updates: 1000}"


def read_config(path: str, whole: Collection[str] = ()) -> dict[str, tuple[Any, int]]:
    """Read a YAML file.

    A mapping such as `training: {updates: 1000}` groups settings, which are named as on the command
    line: `training.updates`. `model: {kind: causal}` is the same as `model: causal`.

    Args:
        path: The file.
        whole: Settings whose value is itself a mapping, so that it is not taken as a group.

    Returns:
        The value and the line of each setting by its name.

    Raises:
        DataError: If the file cannot be read, is not YAML, is not a mapping, or repeats a key.
    """
    text = "\n".join(line for _, line in read_lines(path))
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise DataError(f"{path}: it must be a mapping of settings, such as {EXAMPLE}")
        found = {}
        for key, value in _items(root, path):
            if key.value in whole or not isinstance(value, yaml.MappingNode):
                found[key.value] = (_value(loader, value, path), _line(key))
                continue
            for inner, item in _items(value, path):
                name = f"{key.value}.{inner.value}"
                name = "model" if name == "model.kind" else name
                found[name] = (_value(loader, item, path), _line(inner))
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}{where}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from None
    return found


def _items(node: yaml.MappingNode, path: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Return the keys and values of a mapping; YAML itself would let the last of two keys win."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = _line(key)
        if not isinstance(key, yaml.ScalarNode):
            raise DataError(f"{path}, line {line}: a key must be the name of a setting")
        if key.value in seen:
            also = f"it is already set on line {seen[key.value]}"
            raise DataError(f"{path}, line {line}: {key.value} is set twice; {also}")
        seen[key.value] = line
    return list(node.value)


def _value(loader: yaml.SafeLoader, node: yaml.Node, path: str) -> Any:
    """Return the value of a node, after checking the keys of all mappings in it."""
    nodes = [node]
    while nodes:
        current = nodes.pop()
        if isinstance(current, yaml.MappingNode):
            nodes += [value for _, value in _items(current, path)]
        elif isinstance(current, yaml.SequenceNode):
            nodes += current.value
    return loader.construct_object(node, deep=True)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
