"""Running text: the text of a file, its windows and its paragraphs."""

from __future__ import annotations

import re
import shlex
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from freerun.data.files import get_suffix, read_lines
from freerun.data.folders import find_split_files, is_dataset, load_splits
from freerun.data.splits import count_shared
from freerun.data.tables import FORMATS
from freerun.errors import DataError

SYMBOLS = string.ascii_lowercase + string.digits + " .,'\"-?"
"""The 43 symbols: letters, digits, the space and six punctuation marks."""

_PLAIN = dict.fromkeys("‘’‛`´", "'") | dict.fromkeys("“”„«»", '"') | dict.fromkeys("‐‑–—―", "-")
_START = re.compile(r"^\*\*\* ?START OF TH(E|IS) PROJECT GUTENBERG EBOOK.*$", re.MULTILINE)
_END = re.compile(r"^\*\*\* ?END OF TH(E|IS) PROJECT GUTENBERG EBOOK", re.MULTILINE)


def normalize(text: str, symbols: str) -> tuple[str, Counter[str]]:
    """Normalize text to `symbols`; also count the characters that were replaced.

    Text is lower-cased, accents are dropped, and typographic quotes and dashes become plain ones.
    Any other character outside `symbols` becomes a space. Runs of spaces and line breaks become one
    space.
    """
    text = unicodedata.normalize("NFKD", text.lower())
    lost: Counter[str] = Counter()
    table = {}
    for character, count in Counter(text).items():
        plain = _PLAIN.get(character, character)
        if unicodedata.combining(character):
            plain = ""
        elif plain not in symbols:
            if not plain.isspace():
                lost[character] = count
            plain = " "
        table[ord(character)] = plain
    return " ".join(text.translate(table).split()), lost


def cut_windows(text: str, length: int) -> list[str]:
    """Cut text into consecutive windows of `length` characters; the last may be shorter."""
    return [text[start : start + length] for start in range(0, len(text), length)]


def read_text(path: str) -> tuple[str, list[str]]:
    """Read the text of a file; also return notes on it.

    The header and license of Project Gutenberg are removed if their markers are found.

    Raises:
        DataError: if the file is missing, empty or not UTF-8, or nothing is between the markers.
    """
    lines = [line for _, line in read_lines(path)]
    _check_prose(path, lines)
    text = "\n".join(lines)
    start, end = _START.search(text), _END.search(text)
    if not (start and end):
        return text, []
    if not text[start.end() : end.start()].strip():
        raise DataError(f"{path}: there is no text between the markers of Project Gutenberg")
    note = "the header and the license of Project Gutenberg were removed"
    return text[start.end() : end.start()], [note]


def _check_prose(path: str, lines: Sequence[str]) -> None:
    """Check that a file is text, and not a table, whose columns would be read as one text.

    Raises:
        DataError: if it is a table.
    """
    suffix = get_suffix(path)
    tabs = {line.count("\t") for line in lines if line.strip()}
    if suffix in FORMATS or (len(lines) >= 10 and len(tabs) == 1 and tabs != {0}):
        what = f"it ends in {suffix}" if suffix in FORMATS else "each line has columns between tabs"
        raise DataError(
            f"{path}: {what}, so it is a table; running text is needed here. For sources and "
            f"targets in columns: {shlex.join(['freerun', 'train', 'pairs', '--data', path])}"
        )


def read_python_documentation() -> str:
    """Return the topics of Python's `help()`, without lines that have no letter or digit."""
    from pydoc_data.topics import topics

    lines = "\n".join(topics.values()).split("\n")
    return "\n".join(line for line in lines if any(map(str.isalnum, line)))


T = TypeVar("T")

_BETWEEN = re.compile(r"\n\s*\n")
_OTHERS = {"dev": ("train",), "test": ("train", "dev")}
"""For each split, the splits with which it must not share paragraphs."""


def split_paragraphs(text: str) -> list[str]:
    """Split text into paragraphs at empty lines; white space becomes single spaces."""
    joined = (" ".join(part.split()) for part in _BETWEEN.split(text))
    return [part for part in joined if part]


def read_texts(data: str) -> tuple[dict[str, list[str]], list[str]]:
    """Read the text of a file as train, or the texts of the splits of a dataset; also return notes.

    The texts of a dataset are the rows of its column `text`; those of a folder are its .txt files.

    Raises:
        DataError: if the data are missing, empty or not UTF-8, or a dataset has no such column.
        MissingExtraError: if a library is needed and not installed.
    """
    if not is_dataset(data):
        text, notes = read_text(data)
        return {"train": [text]}, notes
    files = find_split_files(Path(data), {".txt", ".txt.gz"}) if Path(data).is_dir() else {}
    if not files:
        return {name: table.read_texts("text") for name, table in load_splits(data).items()}, []
    if "train" not in files:
        raise DataError(f"{data}: no file is called train; there is {', '.join(files)}")
    read = {name: [read_text(str(path)) for path in paths] for name, paths in files.items()}
    notes = [
        f"{name}: {note}" for name, part in read.items() for _, found in part for note in found
    ]
    return {name: [text for text, _ in part] for name, part in read.items()}, notes


def read_paragraphs(data: str) -> tuple[dict[str, list[str]], list[str]]:
    """Read the paragraphs of the texts of every split (see `read_texts`); also return notes."""
    texts, notes = read_texts(data)
    return {
        name: [paragraph for text in part for paragraph in split_paragraphs(text)]
        for name, part in texts.items()
    }, notes


def hold_out_end(parts: dict[str, list[str]], sizes: Mapping[str, int]) -> list[str]:
    """Take missing test and dev splits from the end of train, at most a tenth of it each.

    Each is one contiguous part of the text. Paragraphs that also occur before it are left out, or
    counted in splits that were given.

    Args:
        parts: the paragraphs of the existing splits, changed in place.
        sizes: the maximum number of paragraphs of dev and test.

    Returns:
        Notes on paragraphs that are in two splits.
    """
    total, given = len(parts["train"]), set(parts)
    for name in ("test", "dev"):
        if name not in parts:
            count = min(sizes[name], max(total // 10, 1))
            parts["train"], parts[name] = parts["train"][:-count], parts["train"][-count:]
    notes = []
    for name, others in _OTHERS.items():
        known = {paragraph for other in others for paragraph in parts[other]}
        count, there = count_shared(parts[name], known), " or ".join(others)
        if count and name in given:
            notes.append(f"{count} paragraphs of {name} are also in {there}")
        elif count:
            parts[name] = [paragraph for paragraph in parts[name] if paragraph not in known]
            notes.append(f"{count} paragraphs of {name} were left out: they are also in {there}")
    return notes
