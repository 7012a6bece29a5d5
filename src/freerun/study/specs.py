"""Parse methods: from texts of a command line, and from mappings of YAML."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from freerun.imports import is_address
from freerun.methods import METHODS, Method, find_method
from freerun.settings import SettingError, build, format_value, parse_spec

METHOD_EXAMPLE = "scheduled_sampling:schedule=linear,k=0.9"
MAX_NAME = 200
"""The name of a folder may have 255 bytes."""

Given = Mapping[str, Any] | Sequence[Any]


def parse_method(spec: str) -> Method:
    """Parse the text of a method, such as `scheduled_sampling:schedule=linear,k=0.9`.

    In place of the name, it may have the address of a method of your own (see `find_method`).

    Raises:
        SettingError: if the method or a setting is unknown, or a value is wrong.
    """
    name, settings = parse_spec(spec, METHODS, METHOD_EXAMPLE)
    return build(find_method(name), settings, f"method {spec!r}")


def parse_methods(given: Given, variants: Mapping[str, Method] | None = None) -> dict[str, Method]:
    """Parse the methods of a comparison, each with a unique name.

    In a list, a method is given by its text, which is also the name of the variant. In a mapping,
    as in YAML, the key is the name of a method, with its settings as value, or a name of your own,
    with a method as value:

        mle: {}
        scheduled_sampling: {schedule: linear}
        ss_steep: {scheduled_sampling: {schedule: exponential, k: 0.999}}
        dss_sharp: differentiable_scheduled_sampling:alpha=10

    The items of a list may also be such mappings, and a value may be a method object.

    Args:
        given: the methods.
        variants: variants that a list can select by their names, before those of methods.

    Raises:
        SettingError: if a method or a setting is unknown, a value is wrong, or two variants have
            the same name, or names that map to the same folder.
    """
    methods: dict[str, Method] = {}
    folders: dict[str, str] = {}
    for name, method in _entries(given, variants or {}):
        if name in methods:
            raise SettingError(f"{name!r} is named twice; each variant needs its own name")
        if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
            raise SettingError(
                f"{name!r:.60} is not a valid name; it must have 1 to {MAX_NAME} printable "
                "characters"
            )
        folder = make_folder_name(name)
        if folder in folders:
            message = f"{folders[folder]!r} and {name!r} would share the folder {folder!r}"
            raise SettingError(f"{message}; choose another name")
        methods[name], folders[folder] = method, name
    if not methods:
        raise SettingError(f"no method is named; known are {', '.join(METHODS)}")
    return methods


def make_folder_name(name: str) -> str:
    """Return the folder of a variant's runs: its name, without characters that are not portable."""
    return re.sub(r"^\.|[^\w.=,+-]", "-", name)


def _entries(given: Given, variants: Mapping[str, Method]) -> Iterable[tuple[str, Method]]:
    """Yield names and methods."""
    if isinstance(given, str):
        given = [given]
    items: list[Any] = [given] if isinstance(given, Mapping) else list(given)
    for item in items:
        if isinstance(item, str):
            name = item.strip()
            _check_one(name, {**METHODS, **variants})
            yield name, variants[name] if name in variants else parse_method(item)
        elif isinstance(item, Mapping):
            for name, value in item.items():
                yield str(name), _variant(str(name), value)
        else:
            raise SettingError(f"{item!r} is not a method; name one as in {METHOD_EXAMPLE!r}")


def _check_one(item: str, known: Collection[str]) -> None:
    """Check that a text does not name several methods."""
    first, *rest = re.split(r"[\s,]+", item.partition(":")[0].strip())
    if rest and item not in known and first in known:
        raise SettingError(
            f"{item!r} names several methods; each must be an argument or an item of a list of its "
            f"own, such as {' '.join([first, *rest])} without quotes and commas"
        )


def _variant(name: str, value: object) -> Method:
    """Parse the value of `name` in a mapping of methods."""
    if isinstance(value, str):
        return parse_method(value)
    if isinstance(value, Method):
        return value
    settings = _settings(name, value)
    if name not in METHODS and len(settings) == 1:
        ((inner, inner_value),) = settings.items()
        if inner in METHODS or is_address(str(inner)) or isinstance(inner_value, Mapping):
            cls = find_method(str(inner), f"{name}: ")
            return build(cls, _settings(f"{name}: {inner}", inner_value), f"method {name!r}")
    return build(find_method(name), settings, f"method {name!r}")


def _settings(name: str, value: object) -> dict[str, Any]:
    """Return a mapping of settings; None stands for an empty one."""
    if value is not None and not isinstance(value, Mapping):
        raise SettingError(f"{name} is {format_value(value)}; it must be a mapping of settings")
    return {str(key): item for key, item in (value or {}).items()}
