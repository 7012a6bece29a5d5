"""What `freerun compare --tune` tries: the spaces of the settings of methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`.

    Args:
        low: the lowest.
        high: the highest.
        log: whether equal factors, instead of equal differences, are equally likely.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[str | int | float | bool, ...]


Space = Range | Choice


def pick_default_settings(settings: object, space: Mapping[str, Space]) -> dict[str, Space]:
    """Return the part of a space whose settings have their defaults: others were chosen by hand.

    Args:
        settings: a dataclass.
        space: spaces of its fields, by their names; those of inner dataclasses with a dot, as in
            `cell_loss.alpha`.
    """
    return {path: each for path, each in space.items() if _is_default(settings, path)}


def get_setting(settings: object, path: str) -> Any:
    """Return a field by its path."""
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def replace_settings(settings: _T, values: Mapping[str, Any]) -> _T:
    """Return a dataclass with other values of some of its fields, by their paths."""
    whole: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        if rest:
            inner.setdefault(name, {})[rest] = value
        else:
            whole[name] = value
    for name, parts in inner.items():
        whole[name] = replace_settings(getattr(settings, name), parts)
    found: _T = dataclasses.replace(settings, **whole)  # type: ignore[type-var]
    return found


def _is_default(settings: Any, path: str) -> bool:
    parent, _, name = path.rpartition(".")
    owner = get_setting(settings, parent) if parent else settings
    default = next(each.default for each in dataclasses.fields(owner) if each.name == name)
    return bool(getattr(owner, name) == default)
