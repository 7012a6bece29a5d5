"""YAML with the types of JSON: all but true, false, null and decimal numbers is text.

YAML 1.1 reads `no` as false, 010 as 8, 1:30 as 90, 1e-3 as text and 2001-05-01 as a date.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_NODES, MAX_DEPTH, MAX_DIGITS = 10_000, 50, 1_000
"""Limits of a text. The nodes of an alias count each time that it is used."""

_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}
_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class YamlError(ValueError):
    """Raised if a text cannot be read.

    Args:
        message: what is wrong.
        line: the line, from 1; None if it is unknown.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _Loader(yaml.BaseLoader):
    def resolve(self, *node: object) -> str:
        """Return no tag for a node that is written without one."""
        return ""


def compose(text: str) -> yaml.Node | None:
    """Return the root of a text; None if it is empty.

    Raises:
        YamlError: if it is not YAML, has tags, merge keys or repeated keys, or exceeds the limits.
    """
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(f"not YAML: it has the character U+{error.character:04X}", line) from None
    except yaml.MarkedYAMLError as error:
        end = None if error.problem_mark is None else error.problem_mark.line + 1
        raise YamlError(f"not YAML: {error.problem}", end) from None
    except RecursionError:
        raise YamlError(_TOO_DEEP) from None
    except (ValueError, OverflowError):
        raise YamlError("not YAML: the number of a character or a version is too large") from None
    _check(root)
    return root


def get_value(node: yaml.Node | None) -> Any:
    """Return the value of a node of `compose`."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: get_value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [get_value(item) for item in node.value]
    return _read_scalar(node) if isinstance(node, yaml.ScalarNode) else None


def get_line(node: yaml.Node) -> int:
    """Return the line of a node, from 1."""
    return int(node.start_mark.line) + 1


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


def _check(root: yaml.Node | None) -> None:
    """Check all nodes, counting those of an alias each time that it is used."""
    left: list[tuple[yaml.Node, int]] = [] if root is None else [(root, 0)]
    count = 0
    while left:
        node, depth = left.pop()
        count, line = count + 1, get_line(node)
        if depth > MAX_DEPTH:
            raise YamlError(_TOO_DEEP, line)
        if count > MAX_NODES:
            raise YamlError(f"it has more than {MAX_NODES:,} values")
        if node.tag:
            raise YamlError(f"tags such as {node.tag!r} are not supported", line)
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            left += [(value, depth + 1) for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            left += [(item, depth + 1) for item in node.value]


def _check_keys(node: yaml.MappingNode) -> None:
    """Check the keys of a mapping. In plain YAML, the last of two equal keys would win."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = get_line(key)
        if not isinstance(key, yaml.ScalarNode):
            raise YamlError("a key must be the name of a setting", line)
        if key.value == "<<":
            raise YamlError("merge keys (<<) are not supported", line)
        if key.value in seen:
            also = f"it is already set on line {seen[key.value]}"
            raise YamlError(f"{key.value} is set twice; {also}", line)
        seen[key.value] = line


def _read_scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.style is not None:  # It is quoted or a block.
        return text
    if text in (text.lower(), text.upper(), text.capitalize()) and text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if len(text) <= MAX_DIGITS:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
