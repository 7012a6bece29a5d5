"""Running text in few symbols, cut into windows."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

from freerun.tasks.base import DataError
from freerun.tasks.files import read_lines

SYMBOLS = string.ascii_lowercase + string.digits + " .,'\"-?"
"""The 43 symbols: letters, digits, the space and six punctuation marks."""

_PLAIN = dict.fromkeys("‘’‛`´", "'") | dict.fromkeys("“”„«»", '"') | dict.fromkeys("‐‑–—―", "-")
_START = re.compile(r"^\*\*\* ?START OF TH(E|IS) PROJECT GUTENBERG EBOOK.*$", re.MULTILINE)
_END = re.compile(r"^\*\*\* ?END OF TH(E|IS) PROJECT GUTENBERG EBOOK", re.MULTILINE)


def normalise(text: str, symbols: str) -> tuple[str, Counter[str]]:
    """Text in `symbols` only, and how often each character had to be given up.

    Lower-cased; accents are dropped, and typographic quotes and dashes made plain. Any other
    character outside `symbols` becomes a space. Runs of spaces and line breaks become one space.
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


def windows(text: str, length: int) -> list[str]:
    """Consecutive pieces of `length` characters; the last may be shorter."""
    return [text[start : start + length] for start in range(0, len(text), length)]


def read_text(path: str) -> tuple[str, list[str]]:
    """The text of a file, and notes on it.

    What Project Gutenberg puts around a book is left out, where its markers are there.

    Raises:
        DataError: where the file is missing, empty or not UTF-8, or nothing is between the markers.
    """
    text = "\n".join(line for _, line in read_lines(path))
    start, end = _START.search(text), _END.search(text)
    if not (start and end):
        return text, []
    if not text[start.end() : end.start()].strip():
        raise DataError(f"{path}: nothing stands between the markers of Project Gutenberg")
    note = "the header and the licence of Project Gutenberg were left out"
    return text[start.end() : end.start()], [note]


def python_documentation() -> str:
    """The topics of Python's own `help()`, without lines that hold no letter or digit (rulings)."""
    from pydoc_data.topics import topics

    lines = "\n".join(topics.values()).split("\n")
    return "\n".join(line for line in lines if any(map(str.isalnum, line)))
