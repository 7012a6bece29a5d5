"""Settings: fields of dataclasses, described by their docstrings and built from text.

A dataclass may have other dataclasses as fields; their settings are named without a prefix, so that
they can be given on a command line or in a specification such as `searnn:roll_in=mixed,alpha=3`:

- a *group* is a field whose type is a dataclass;
- a *choice* is a field whose type is a union of dataclasses that each have a `name`. Its own value
  is the name of one of them, the *option*, and only the settings of that option may be given.

The name of a setting is `metadata[SETTING_NAME]` if its field has that key, and the name of the
field otherwise.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar, Union

from docstring_parser import parse
from yaml import ScalarNode

from freerun.yaml_reader import YamlError, compose, get_value

T = TypeVar("T")
MISSING = dataclasses.MISSING
SETTING_NAME = "setting"
"""The key of a field's metadata that holds the name of its setting."""

_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")
_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_OWN = re.compile(r"(?P<name>[^=]+:\w+)(:(?P<settings>.*=.*))?")
"""An address, and settings behind it."""
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that neither file names nor UTF-8 can contain: NUL, and undecodable bytes."""
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
_LISTS = {int: "[1,2]", float: "[0.5,2]", str: "[a,b]"}
"""Examples of lists."""
_SCALARS = (int, float, bool, str, Path, type(None))


class SettingError(ValueError):
    """Raised if a setting is unknown, missing or wrong. The message says what is expected."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of a dataclass.

    Attributes:
        name: its name.
        kind: its type; of a choice, the `Literal` of the names of its options.
        default: its default; `MISSING` if it is required.
        summary: its description in the docstring.
        choice: for a setting of an option, the name of the choice; None otherwise.
        options: the options of that choice that have this setting.
    """

    name: str
    kind: Any
    default: Any
    summary: str
    choice: str | None = None
    options: tuple[str, ...] = ()

    @property
    def is_required(self) -> bool:
        """Whether it is required, regardless of other settings."""
        return self.default is MISSING and self.choice is None

    @property
    def condition(self) -> str:
        """When it has an effect, as in `roll_in=mixed or mixed_cells`; empty if always."""
        return "" if self.choice is None else f"{self.choice}={' or '.join(self.options)}"


def list_settings(cls: type) -> dict[str, Setting]:
    """Return the settings of a dataclass by name, in the order of its fields.

    Docstrings of base classes describe inherited fields. Fields with `init=False` are not settings.

    Raises:
        TypeError: if two fields that are not the same setting of several options share a name.
    """
    found: dict[str, Setting] = {}
    for setting in _flatten(cls):
        known = found.setdefault(setting.name, setting)
        if known is setting:
            continue
        if known.choice is None or dataclasses.replace(setting, options=known.options) != known:
            raise TypeError(f"{cls.__name__} has two settings called {setting.name!r}")
        options = known.options + setting.options
        found[setting.name] = dataclasses.replace(known, options=options)
    return found


def to_dict(thing: object) -> dict[str, Any]:
    """Return the settings of an instance by name; those of other options are left out.

    A callable, such as a user's function, is represented by its `repr` without the memory address,
    which differs between processes; so is one in a list. Objects other than dataclasses have no
    settings.
    """
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return {}
    found: dict[str, Any] = {}
    for name, kind, field in _fields(type(thing)):
        value = getattr(thing, field.name)
        if _options(kind):
            found |= {name: value.name, **to_dict(value)}
        elif _is_group(kind):
            found |= to_dict(value)
        else:
            found[name] = _describe(value)
    return found


def _describe(value: object) -> Any:
    """Return a value, with text for functions."""
    if isinstance(value, tuple):
        return tuple(map(_describe, value))
    return _ADDRESS.sub("", repr(value)) if callable(value) else value


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make an instance of a dataclass from settings by name; text is read as the setting's type.

    Args:
        cls: the dataclass.
        values: its settings by name, including those of groups and options.
        where: what the settings belong to; messages begin with it.

    Raises:
        SettingError: if a setting is unknown, missing, without effect, of the wrong type or out
            of range.
    """
    known = list_settings(cls)
    for name in values:
        if name not in known:
            raise SettingError(f"{where}: unknown setting {name!r}{did_you_mean(name, known)}")
    converted = {
        name: convert(value, known[name].kind, f"{where}: {name}") for name, value in values.items()
    }
    for setting in known.values():
        _check_presence(setting, known, converted, where)
    try:
        return _make(cls, converted)
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError(f"{where}: {error}") from None


def convert(value: object, kind: object, name: str) -> Any:
    """Return `value` as a `kind`: text is read as YAML, everything else is only checked.

    Args:
        value: the value of a setting.
        kind: the type of its field.
        name: what to call the setting in a message.

    Raises:
        SettingError: if it is not such a value.
    """
    if callable(value) and not isinstance(value, str):
        return value  # A user's object, which is checked by the class that it is passed to.
    try:
        return _convert(value, kind)
    except ValueError as error:
        shown = repr(value) if isinstance(value, str) else format_value(value)
        required = str(error) or f"{describe_type(kind)}{_show_list(kind)}"
        raise SettingError(f"{name} is {shown:.60}; it must be {required}") from None


def describe_type(kind: Any) -> str:
    """Describe a type in plain words."""
    origin, arguments = typing.get_origin(kind), _readable(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        parts = [describe_type(argument) for argument in arguments if argument is not type(None)]
        return " or ".join([*parts, "null"] if type(None) in arguments else parts)
    if origin in (list, tuple, Sequence):
        return f"a list of {_PLURALS.get(arguments[0], 'values')}"
    return "a path" if kind is Path else _TYPES.get(kind, str(kind))


def _show_list(kind: Any) -> str:
    """Return an example of a list, if the type is one or may be one."""
    for each in (kind, *_readable(kind)):
        if typing.get_origin(each) in (list, tuple, Sequence):
            item = _readable(each)[0]
            return f", such as {_LISTS[item]}" if item in _LISTS else ""
    return ""


def check_seed(seed: int) -> None:
    """Check that a number can be a seed.

    Raises:
        ValueError: if it cannot.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; it must be in [0, 2^32)")


def parse_spec(spec: str, known: Collection[str], example: str) -> tuple[str, dict[str, str]]:
    """Split a text like `name:setting=value,setting=value` into the name and its settings.

    The name may be an address (`package.module:Name`, see `freerun.imports`), which has a colon of
    its own.

    Args:
        spec: the text.
        known: names that are not addresses, so that settings follow their colon.
        example: a valid text, for messages.

    Raises:
        SettingError: if a setting has no value or is set twice.
    """
    name, _, rest = spec.partition(":")
    if name.strip() not in known and (address := _OWN.fullmatch(spec.strip())):
        name, rest = address["name"], address["settings"] or ""
    settings: dict[str, str] = {}
    for part in rest.split(",") if rest.strip() else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise SettingError(f"{spec!r}: {key!r} has no value; write it as in {example!r}")
        if key in settings:
            raise SettingError(f"{spec!r}: {key} is set twice")
        settings[key] = value
    return name.strip(), settings


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return the end of a message about an unknown name.

    Args:
        name: the unknown name.
        known: the known names; the nearest is suggested, and `model.cell` is near `cell`.
        otherwise: the end of the message if no name is near; by default, all known names.
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


def format_value(value: object) -> str:
    """Format a value as in YAML and on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(format_value, value))}]"
    return str(value)


def _fields(cls: type) -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Yield name, type and field of every setting."""
    kinds = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.init:
            yield field.metadata.get(SETTING_NAME, field.name), kinds[field.name], field


def _default(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a field, or `MISSING`."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _is_group(kind: object) -> TypeGuard[type[Any]]:
    """Return whether a type is a dataclass."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _options(kind: object) -> dict[str, Any]:
    """Return the options of a choice by name; none for other types."""
    if typing.get_origin(kind) not in (Union, types.UnionType):
        return {}
    arguments = typing.get_args(kind)
    if not all(map(_is_group, arguments)):
        return {}
    return {option.name: option for option in arguments}


def _flatten(
    cls: type, choice: str | None = None, options: tuple[str, ...] = ()
) -> Iterator[Setting]:
    """Yield the settings of a dataclass and of the dataclasses that are its fields."""
    summaries = {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for base in reversed(cls.__mro__)
        for parameter in parse(base.__dict__.get("__doc__") or "").params
    }
    for name, kind, field in _fields(cls):
        default, summary = _default(field), summaries.get(field.name, "")
        own = _options(kind)
        if own:
            default = default if default is MISSING else default.name
            yield Setting(name, Literal[tuple(own)], default, summary, choice, options)
            for option, variant in own.items():
                yield from _flatten(variant, name, (option,))
        elif _is_group(kind):
            yield from _flatten(kind, choice, options)
        else:
            yield Setting(name, kind, default, summary, choice, options)


def _check_presence(
    setting: Setting, known: Mapping[str, Setting], given: Mapping[str, Any], where: str
) -> None:
    """Check that required settings are given, and that given settings have an effect."""
    name = setting.name
    summary = setting.summary.rstrip(".")
    if setting.choice is None:
        if setting.is_required and name not in given:
            raise SettingError(f"{where}: {name} is missing: {summary}")
        return
    chosen = given.get(setting.choice, known[setting.choice].default)
    if name in given and chosen not in setting.options:
        raise SettingError(
            f"{where}: {name} has no effect on {setting.choice}={chosen}; it needs "
            f"{setting.condition}"
        )
    if setting.default is MISSING and chosen in setting.options and name not in given:
        raise SettingError(f"{where}: {setting.choice}={chosen} needs {name}: {summary}")


def _make(cls: type[T], values: Mapping[str, Any]) -> T:
    """Make an instance from settings by name; a field without any keeps its default."""
    given: dict[str, Any] = {}
    for name, kind, field in _fields(cls):
        options = _options(kind)
        if options:
            chosen = options[values[name] if name in values else _default(field).name]
            if name in values or list_settings(chosen).keys() & values.keys():
                given[field.name] = _make(chosen, values)
        elif _is_group(kind):
            if list_settings(kind).keys() & values.keys():
                given[field.name] = _make(kind, values)
        elif name in values:
            given[field.name] = values[name]
    return cls(**given)


def _readable(kind: object) -> tuple[Any, ...]:
    """Return the arguments of a type, without classes whose values cannot be written as text."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) not in (Union, types.UnionType):
        return arguments
    # In Python 3.10, list[int] is an instance of type.
    return tuple(
        a for a in arguments if a in _SCALARS or typing.get_origin(a) or not isinstance(a, type)
    )


def _convert(value: Any, kind: Any) -> Any:
    """Return a value as a type.

    Raises:
        ValueError: if it is not such a value. The message may say what is expected.
    """
    origin, arguments = typing.get_origin(kind), _readable(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        # None first: text could be read as "null", too.
        reason = ""
        for argument in sorted(arguments, key=lambda argument: argument is not type(None)):
            try:
                return _convert(value, argument)
            except ValueError as error:
                reason = str(error) or reason
        raise ValueError(reason)
    if kind is str or kind is Path:
        if not isinstance(value, (str, kind)):
            raise ValueError
        if _UNUSABLE.search(str(value)):
            raise ValueError("text in UTF-8")
        return kind(value)
    read = _read(value) if isinstance(value, str) else value
    if origin is Literal:
        for argument in arguments:
            if value == argument or read == argument:
                return argument
        raise ValueError
    if origin in (list, tuple, Sequence):
        if not isinstance(read, (list, tuple)):
            raise ValueError
        items = [_convert(item, arguments[0]) for item in read]
        return tuple(items) if origin is tuple else items
    if kind is float:
        if isinstance(read, bool) or not isinstance(read, (int, float)):
            raise ValueError
        if not -sys.float_info.max <= read <= sys.float_info.max:
            raise ValueError("a finite number")
        return float(read)
    # In Python a bool is an int, but users do not expect true to be a number.
    if not isinstance(read, origin or kind) or (kind is int and isinstance(read, bool)):
        raise ValueError
    if kind is int and abs(read) >= 2**32:
        raise ValueError("a whole number below 2^32")
    return read


def _read(text: str) -> Any:
    """Read a value of YAML; text without a value, such as `# x` or `&x`, is read as text."""
    try:
        node = compose(text)
    except YamlError:
        return text
    nothing = node is None or (isinstance(node, ScalarNode) and not node.value and not node.style)
    return text if nothing else get_value(node)
