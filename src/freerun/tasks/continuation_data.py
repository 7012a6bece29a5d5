"""Running text as paragraphs, and these as splits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from freerun.data import DataError
from freerun.data.files import column, is_dataset, load_splits
from freerun.data.splits import shared
from freerun.tasks.spelling import read_text

T = TypeVar("T")

_BETWEEN = re.compile(r"\n\s*\n")
_OTHERS = {"dev": ("train",), "test": ("train", "dev")}
"""The splits whose paragraphs another must not have."""


def paragraphs(text: str) -> list[str]:
    """The lines of `text` between empty ones, joined: one space for white space of any kind."""
    joined = (" ".join(part.split()) for part in _BETWEEN.split(text))
    return [part for part in joined if part]


def read_paragraphs(data: str) -> tuple[dict[str, list[str]], list[str]]:
    """The paragraphs of a text file, which are all train, or of the splits of a dataset; notes.

    Of a dataset it is the column `text`, each row by itself.

    Raises:
        DataError: where the data are missing, empty or not UTF-8, or a dataset has no such column.
        MissingExtraError: where `datasets` is needed and not installed.
    """
    if not is_dataset(data):
        text, notes = read_text(data)
        return {"train": paragraphs(text)}, notes
    parts = {}
    for name, rows in load_splits(data).items():
        cells = rows[column(rows, ["text"], f"{data} ({name})")]
        parts[name] = [part for cell in cells for part in paragraphs(cell or "")]
    return parts, []


def divide(parts: dict[str, list[str]], sizes: Mapping[str, int]) -> list[str]:
    """Take test and dev off the end of train where they are missing: a tenth of it each, at most.

    Each is one stretch of the text. Paragraphs of it that also stand before it are left out; of
    splits that were given they are counted.

    Args:
        parts: the paragraphs of the splits that there are; changed in place.
        sizes: the most paragraphs of dev and test.

    Returns:
        Notes on paragraphs that stand in two splits.
    """
    total, given = len(parts["train"]), set(parts)
    for name in ("test", "dev"):
        if name not in parts:
            count = min(sizes[name], max(total // 10, 1))
            parts["train"], parts[name] = parts["train"][:-count], parts["train"][-count:]
    notes = []
    for name, others in _OTHERS.items():
        known = {paragraph for other in others for paragraph in parts[other]}
        count, there = shared(parts[name], known), " or ".join(others)
        if count and name in given:
            notes.append(f"{count} paragraphs of {name} also stand in {there}")
        elif count:
            parts[name] = [paragraph for paragraph in parts[name] if paragraph not in known]
            notes.append(f"{count} paragraphs of {name} were left out: they also stand in {there}")
    return notes


def long_enough(
    parts: dict[str, list[Sequence[T]]], prompt: int, what: str, data: str
) -> list[str]:
    """Leave out the paragraphs that have no more than the prompt: nothing of them is to be written.

    Args:
        parts: the tokens of the paragraphs of every split; changed in place.
        prompt: the tokens of a prompt.
        what: what tokens are called.
        data: what was read, for the message.

    Returns:
        A note on how many were left out, if any.

    Raises:
        DataError: where a split has none left.
    """
    total = sum(map(len, parts.values()))
    for name, part in parts.items():
        parts[name] = [paragraph for paragraph in part if len(paragraph) > prompt]
    left = total - sum(map(len, parts.values()))
    if not all(parts.values()):
        raise DataError(
            f"{data}: of {total} paragraphs {total - left} have more than {prompt} {what}, the "
            "length of a prompt, which are too few to split; paragraphs have an empty line between "
            "them"
        )
    note = f"{left} of {total} paragraphs were left out: they have at most {prompt} {what}"
    return [note] if left else []


def pieces(
    tokens: Sequence[T], prompt: int, length: int, *, whole: bool
) -> Iterator[tuple[Sequence[T], Sequence[T]]]:
    """The prompts of a paragraph, and all that comes after each.

    Args:
        tokens: its tokens or words, more than `prompt`, and what stands for its end.
        prompt: the tokens of a prompt.
        length: the most tokens of a target.
        whole: whether pieces begin every `length` tokens, so that each token behind the first
            prompt is in one target; else there is one piece, the beginning.
    """
    for start in range(0, len(tokens) - prompt if whole else 1, length):
        yield tokens[start : start + prompt], tokens[start + prompt :]
