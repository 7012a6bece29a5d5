"""Splitting examples so that equal ones stay on one side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from freerun.randomness import Coordinate, permutation
from freerun.tasks.base import DataError

T = TypeVar("T")


def split(
    keys: Sequence[Hashable], counts: Sequence[int], *coordinates: Coordinate
) -> list[list[int]]:
    """Examples dealt to parts at random, all of one key to the same part.

    Keys are dealt in a random order, each whole to the first part that still has room for it.

    Args:
        keys: what makes examples equal.
        counts: the most examples of each part.
        coordinates: what names the random order: a seed and a stream.

    Returns:
        The numbers of the examples in each part, in order; last those that no part had room for.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    members = list(groups.values())
    parts: list[list[int]] = [[] for _ in counts]
    rest: list[int] = []
    for group in permutation(len(members), *coordinates).tolist():
        numbers = members[group]
        rooms = zip(parts, counts, strict=True)
        fitting = (part for part, count in rooms if len(part) + len(numbers) <= count)
        next(fitting, rest).extend(numbers)
    return [sorted(part) for part in (*parts, rest)]


def hold_out(
    items: Sequence[T], key: Callable[[T], Hashable], name: str, *coordinates: Coordinate
) -> tuple[list[T], list[T]]:
    """What is left of `items`, and a random tenth of them; equal ones stay on one side.

    Args:
        items: the examples.
        key: what makes them equal.
        name: where they come from, for the message.
        coordinates: what names the random order: a seed and a stream.

    Raises:
        DataError: where there are too few different ones.
    """
    keys = [key(item) for item in items]
    held, rest = split(keys, [max(len(keys) // 10, 1)], *coordinates)
    if not held or not rest:
        raise DataError(
            f"{name}: {len(set(keys))} different examples are too few to set some apart"
        )
    return [items[i] for i in rest], [items[i] for i in held]


def shared(keys: Iterable[Hashable], others: Iterable[Hashable]) -> int:
    """How many of `keys` also stand among `others`."""
    among = set(others)
    return sum(key in among for key in keys)
