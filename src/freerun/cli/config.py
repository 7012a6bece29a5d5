"""Settings in YAML, each with the line it stands on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml

from freerun.data import DataError
from freerun.data.files import read_lines

EXAMPLE = "training: {updates: 1000}"


def read_config(
    path: str, groups: Collection[str], kinds: Collection[str] = ()
) -> dict[str, tuple[Any, int]]:
    """The settings of a YAML file, with their lines, by names like `data` and `training.clip`.

    Args:
        path: the file.
        groups: the keys under which settings stand, such as `training`.
        kinds: those of them that are settings too, such as `model`: their value stands for the
            group, or under `kind` in it.

    Raises:
        DataError: where the file cannot be read, is no YAML, is no mapping, or a key stands twice.
    """
    text = "\n".join(line for _, line in read_lines(path))
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise DataError(f"{path}: it must be a mapping of settings, such as {EXAMPLE}")
        found = {}
        for key, value in _items(node, path):
            inside = key.value in groups
            if key.value in kinds:
                inside = isinstance(value, yaml.MappingNode)
            if not inside:
                found[key.value] = (_value(loader, value, path), _line(key))
                continue
            if not isinstance(value, yaml.MappingNode):
                where = f"{path}, line {_line(value)}"
                raise DataError(f"{where}: {key.value} must be a mapping, such as {EXAMPLE}")
            for inner, item in _items(value, path):
                of_kind = key.value in kinds and inner.value == "kind"
                name = key.value if of_kind else f"{key.value}.{inner.value}"
                found[name] = (_value(loader, item, path), _line(inner))
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}{where}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from None
    return found


def _items(node: yaml.MappingNode, path: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """The keys and values of a mapping, which must be scalars and differ."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = _line(key)
        if not isinstance(key, yaml.ScalarNode):
            raise DataError(f"{path}, line {line}: a key must be the name of a setting")
        if key.value in seen:
            also = f"it also stands on line {seen[key.value]}"
            raise DataError(f"{path}, line {line}: {key.value} is set twice; {also}")
        seen[key.value] = line
    return list(node.value)


def _value(loader: yaml.SafeLoader, node: yaml.Node, path: str) -> Any:
    """What a node says; the mappings in it may not repeat a key."""
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
