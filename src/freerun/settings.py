"""Settings: the fields of dataclasses, described from their docstrings and built from text."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union

from docstring_parser import parse
from jsonargparse import ArgumentError, ArgumentParser

T = TypeVar("T")
MISSING = dataclasses.MISSING
_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_PLAIN = (int, float, bool, str, type(None))
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


class SettingError(ValueError):
    """A setting that does not exist, is missing or cannot have its value: says what would be."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A field of a dataclass.

    Attributes:
        name: the name of the field.
        kind: its type.
        default: what it is where left out; `MISSING` where it must be given.
        summary: what the docstring of the class says of it.
    """

    name: str
    kind: Any
    default: Any
    summary: str

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING


def settings_of(cls: type) -> dict[str, Setting]:
    """The settings of a dataclass, in the order of its fields; bases describe theirs.

    Fields that are not given when it is made are no settings: what a method remembers, say.
    """
    kinds = typing.get_type_hints(cls)
    summaries = {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for base in reversed(cls.__mro__)
        for parameter in parse(base.__dict__.get("__doc__") or "").params
    }
    found = {}
    for field in (field for field in dataclasses.fields(cls) if field.init):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        summary = summaries.get(field.name, "")
        found[field.name] = Setting(field.name, kinds[field.name], default, summary)
    return found


def values_of(thing: object) -> dict[str, Any]:
    """The settings of an instance by name; none where it is no dataclass.

    What can be called, such as a function of the user's own, is given as Python shows it, without
    its address, which is another one in every process.
    """
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return {}
    fields = (field for field in dataclasses.fields(thing) if field.init)
    found = {field.name: getattr(thing, field.name) for field in fields}
    return {
        name: _ADDRESS.sub("", repr(value)) if callable(value) else value
        for name, value in found.items()
    }


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of a dataclass; text is read as the type of its field.

    Args:
        cls: the dataclass.
        values: its settings by name.
        where: what the settings belong to, to begin messages with.

    Raises:
        SettingError: where a setting is unknown, missing, of the wrong type or out of range.
    """
    known = settings_of(cls)
    for name in values:
        if name not in known:
            raise SettingError(f"{where}: unknown setting {name!r}{did_you_mean(name, known)}")
    for setting in known.values():
        if setting.required and setting.name not in values:
            raise SettingError(f"{where}: {setting.name} is missing: {setting.summary}".rstrip("."))
    converted = {
        name: convert(value, known[name].kind, f"{where}: {name}") for name, value in values.items()
    }
    try:
        return cls(**converted)
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError(f"{where}: {error}") from None


def convert(value: Any, kind: Any, name: str) -> Any:
    """`value` as a `kind`: text is read, all else is checked.

    Args:
        value: the value of a setting.
        kind: the type of its field.
        name: what to call the setting.

    Raises:
        SettingError: where it is no such value.
    """
    if callable(value) and not isinstance(value, str):
        return value  # an object of the user's own; what takes it says whether it will do
    kind = _written(kind)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    try:
        # The parser takes None for "not given", and so does not check it.
        if value is None and type(None) not in typing.get_args(kind):
            raise ArgumentError(None, "missing")
        converted = parser.parse_object({"value": value}).value
        if isinstance(converted, float) and math.isnan(converted):
            raise ArgumentError(None, "not a number")
    except ArgumentError:
        shown = repr(value) if isinstance(value, str) else spelt(value)
        raise SettingError(f"{name} is {shown:.60}; it must be {words(kind)}") from None
    return converted


def _written(kind: Any) -> Any:
    """What of a type can be written in a file or on a command line: no objects of Python."""
    if typing.get_origin(kind) not in (Union, types.UnionType):
        return kind
    return Union[tuple(a for a in typing.get_args(kind) if not isinstance(a, type) or a in _PLAIN)]  # noqa: UP007


def words(kind: Any) -> str:
    """A type in plain words."""
    kind = _written(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        parts = [words(argument) for argument in arguments if argument is not type(None)]
        return " or ".join([*parts, "null"] if type(None) in arguments else parts)
    if origin in (list, tuple):
        return f"a list of {_PLURALS.get(arguments[0], 'values')}"
    return _WORDS.get(kind, str(kind))


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """The end of a message on an unknown name.

    Args:
        name: the unknown name.
        known: the known ones, of which the nearest is named; `model.cell` is near `cell`.
        otherwise: what to say where none is near; left out, all that are known.
    """
    known = list(known)
    plain = {option.lstrip("-"): option for option in known}
    group, _, wanted = name.lower().replace("-", "_").lstrip("_").rpartition(".")
    near: list[str] = []
    for candidates in ([k for k in plain if k.rpartition(".")[0] == group], list(plain)):
        own = {k.rpartition(".")[2]: k for k in candidates}
        initials = {"".join(word[:1] for word in k.split("_")): k for k in own if "_" in k}
        near += [initials[wanted]] if wanted in initials else []
        near += difflib.get_close_matches(wanted, own, n=1)
        if near:
            return f"; did you mean {plain[own[near[0]]]!r}?"
    return f"; known are {', '.join(known)}" if otherwise is None else f"; {otherwise}"


def spelt(value: Any) -> str:
    """A value as YAML and the command line spell it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(spelt, value))}]"
    return str(value)
