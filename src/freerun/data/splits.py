"""Split examples, with equal ones in the same split."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from freerun.errors import DataError
from freerun.randomness import Coordinate, permutation

T = TypeVar("T")


def split_by_key(
    keys: Sequence[Hashable], counts: Sequence[int], *coordinates: Coordinate
) -> list[list[int]]:
    """Assign examples to parts at random, all of one key to the same part.

    Keys are assigned in a random order, each to the first part with enough room for all its
    examples.

    Args:
        keys: the keys of examples; equal examples have equal keys.
        counts: the maximum number of examples of each part.
        coordinates: the coordinates of the random order: a seed and a stream.

    Returns:
        The numbers of the examples in each part, in order; last, those that are in no part.
    """
    groups: dict[Hashable, int] = {}
    group_of = array("q", (groups.setdefault(key, len(groups)) for key in keys))
    sizes = Counter(group_of)
    room = list(counts)
    part_of = array("q", [len(counts)]) * len(groups)
    for group in permutation(len(groups), *coordinates).tolist():
        for part, left in enumerate(room):
            if sizes[group] <= left:
                room[part] -= sizes[group]
                part_of[group] = part
                break
    parts: list[list[int]] = [[] for _ in (*counts, None)]
    for number, group in enumerate(group_of):
        parts[part_of[group]].append(number)
    return parts


def add_missing_splits(
    parts: dict[str, list[T]],
    key: Callable[[T], Hashable],
    sizes: Mapping[str, int | None],
    *coordinates: Coordinate,
    where: str,
    what: tuple[str, str],
    default: int = 1_000,
) -> None:
    """Take missing test and dev splits out of train, with equal examples in the same split.

    Args:
        parts: the examples of train, and of dev and test if they are given.
        key: the key of an example; equal examples have equal keys.
        sizes: the maximum number of examples of dev and test; None for a tenth of train, and at
            most `default`.
        coordinates: the coordinates of the random order: a seed and a stream.
        where: where the examples come from, for messages.
        what: the names of examples and of their keys, as in ("rows", "prompts").
        default: the maximum number of examples of a part without a size.

    Raises:
        DataError: if a part would be empty.
    """
    train = parts["train"]
    missing = [name for name in ("test", "dev") if name not in parts]
    tenth = find_tenth(train)
    counts = [sizes[name] or min(default, tenth) for name in missing]
    if sum(counts) >= len(train) and max(counts, default=0) > tenth:
        asked = " and ".join(
            f"{count} for {name}" for name, count in zip(missing, counts, strict=True)
        )
        raise DataError(
            f"{where}: of {len(train)} {what[0]}, {asked} leave none to train on; set smaller sizes"
        )
    keys = [key(item) for item in train]
    dealt = split_by_key(keys, counts, *coordinates)
    for name, numbers in zip([*missing, "train"], dealt, strict=True):
        parts[name] = [train[i] for i in numbers]
    if all(parts.values()):
        return
    different = len(set(keys))
    if different == len(keys):
        raise DataError(f"{where}: {len(keys)} {what[0]} are too few to split")
    raise DataError(
        f"{where}: {len(keys)} {what[0]} cannot be split, as they have only {different} different "
        f"{what[1]}, and equal ones stay in one split; give dev and test"
    )


def limit_to_tenth(
    sizes: Mapping[str, int | None], items: Sequence[object]
) -> dict[str, int | None]:
    """Return the sizes, of which none is over a tenth of the number of examples."""
    tenth = find_tenth(items)
    return {name: min(size or tenth, tenth) for name, size in sizes.items()}


def find_tenth(items: Sequence[object]) -> int:
    """Return a tenth of the number of examples, but at least 1."""
    return max(len(items) // 10, 1)


def subsample(
    parts: dict[str, list[T]], sizes: Mapping[str, int | None], seed: int, stream: str, what: str
) -> list[str]:
    """Reduce parts to a random subset of their examples, in their order.

    Args:
        parts: the examples of each part.
        sizes: the maximum number of examples of each; None for all.
        seed: the seed of the choice.
        stream: the stream of the choice.
        what: the name of examples in notes.

    Returns:
        Notes on the parts that were reduced.
    """
    notes = []
    for name, size in sizes.items():
        count = len(parts[name])
        if size is not None and count > size:
            chosen = permutation(count, seed, f"{stream} {name} size")[:size]
            parts[name] = [parts[name][i] for i in sorted(chosen.tolist())]
            notes.append(f"{name} was cut from {count} {what} to {size}, drawn by seed")
    return notes


def hold_out(
    items: Sequence[T], key: Callable[[T], Hashable], name: str, *coordinates: Coordinate
) -> tuple[list[T], list[T]]:
    """Split off a random tenth of `items`, with equal ones in the same part; return rest and tenth.

    Args:
        items: the examples.
        key: the key of an item; equal items have equal keys.
        name: where they come from, for messages.
        coordinates: the coordinates of the random order: a seed and a stream.

    Raises:
        DataError: if there are too few distinct items.
    """
    keys = [key(item) for item in items]
    held, rest = split_by_key(keys, [max(len(keys) // 10, 1)], *coordinates)
    if not held or not rest:
        raise DataError(
            f"{name}: {len(set(keys))} different examples are too few to set some apart"
        )
    return [items[i] for i in rest], [items[i] for i in held]


def count_shared(keys: Iterable[Hashable], others: Iterable[Hashable]) -> int:
    """Return how many of `keys` are also among `others`."""
    among = set(others)
    return sum(key in among for key in keys)


def note_shared(
    parts: Mapping[str, Sequence[T]], key: Callable[[T], Hashable], what: str
) -> list[str]:
    """Return notes on examples of dev and test that are also in train.

    Args:
        parts: the examples of train, and of dev and test if they are given.
        key: the key of an item; equal items have equal keys.
        what: the name of examples in notes.
    """
    notes = []
    for name in ("dev", "test"):
        count = count_shared(map(key, parts.get(name, ())), map(key, parts["train"]))
        if count:
            notes.append(f"{count} {what} of {name} are also in train")
    return notes


def describe_sizes(parts: Mapping[str, Sequence[object]], what: str) -> str:
    """Return a note on the number of examples of every split."""
    sizes = (f"{name} {len(parts[name])}" for name in ("train", "dev", "test"))
    return f"{', '.join(sizes)} {what}"
