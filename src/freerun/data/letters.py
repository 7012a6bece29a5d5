"""Handwritten words as images of letters: letter.data of Taskar et al. 2003, or a dataset."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from freerun.data.files import Line
from freerun.data.rows import Row
from freerun.data.tables import Table
from freerun.errors import DataError

PIXELS = 128
COLUMNS = ("id", "letter", "next_id", "word_id", "position", "fold")
WIDTH = len(COLUMNS) + PIXELS
_LONGEST = 18
"""The maximum number of digits of a number in 64 bits."""

LETTERS = string.ascii_lowercase
"""The letters of words."""


@dataclass(frozen=True)
class Word:
    """A handwritten word.

    Args:
        letters: its letters, as text.
        pixels: one image per letter, 16 rows of 8 pixels.
        fold: the fold to which it belongs.
        lines: the lines from which it was read.
    """

    letters: str
    pixels: Float[np.ndarray, "letters 128"]
    fold: int = 0
    lines: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """The key that equal words share: all pixels."""
        return self.pixels.tobytes()

    @property
    def row(self) -> Row:
        """The word as a row with the columns `features` and `target`."""
        return {"features": self.pixels, "target": self.letters, "lines": self.lines}


def is_letter_data(lines: Sequence[str]) -> bool:
    """Return whether lines have the columns of letter.data, by the first that is not blank."""
    first = next((line for line in lines if line.strip()), "")
    return first.count("\t") >= WIDTH - 1


def read_words(lines: Iterable[Line], name: str, *, check_letters: bool = True) -> list[Word]:
    """Read the words of letter.data.

    A line is a letter: id, letter, next_id (-1 ends the word), word_id, position, fold, 128 pixels.

    Args:
        lines: the lines, with their numbers.
        name: the file's name, for messages.
        check_letters: whether letters must be among `LETTERS`; otherwise they are ignored.

    Raises:
        DataError: if a line has not 134 columns or a wrong one, or the letters of a word do not
            follow each other.
    """
    words: list[Word] = []
    rows: list[_Row] = []
    number = 0
    for number, line in lines:
        row = _Row.parse(line, f"{name}, line {number}", check_letters)
        _check_chain(rows, row, f"{name}, line {number}")
        rows.append(row)
        if row.next_id == -1:
            words.append(_word(rows))
            rows = []
    if rows:
        raise DataError(
            f"{name}, line {number}: the letter chain is broken: letter {rows[-1].next_id} should "
            "follow, but the file ends"
        )
    return words


@dataclass(frozen=True)
class _Row:
    """A line of letter.data."""

    id: int
    letter: str
    next_id: int
    word_id: int
    position: int
    fold: int
    pixels: str
    line: str

    @classmethod
    def parse(cls, line: str, where: str, check_letters: bool) -> _Row:
        cells = line.removesuffix("\t").split("\t")
        if len(cells) != WIDTH:
            columns = f"{len(cells)} tab-separated column{'s' if len(cells) > 1 else ''}"
            raise DataError(f"{where}: {columns}; letter.data has {WIDTH}")
        head = dict(zip(COLUMNS, cells, strict=False))
        letter = head.pop("letter")
        if check_letters and (len(letter) != 1 or letter not in LETTERS):
            raise DataError(f"{where}: the letter is {letter!r}; it must be one of {LETTERS}")
        for column_name, cell in head.items():
            if not cell.removeprefix("-").isdecimal() or len(cell) > _LONGEST:
                raise DataError(f"{where}: {column_name} is {cell!r}; it must be a whole number")
        if not {"0", "1"}.issuperset(cells[len(COLUMNS) :]):
            raise DataError(f"{where}: a pixel is neither 0 nor 1")
        numbers = {column_name: int(cell) for column_name, cell in head.items()}
        return cls(letter=letter, pixels="".join(cells[len(COLUMNS) :]), line=line, **numbers)


def _check_chain(rows: Sequence[_Row], row: _Row, where: str) -> None:
    """Check that `row` continues a word whose letters so far are `rows`.

    Raises:
        DataError: if it does not.
    """
    if not rows:
        if row.position != 1:
            raise DataError(
                f"{where}: the letter chain is broken: a word begins at position {row.position}"
            )
        return
    last = rows[-1]
    expected = (last.next_id, last.word_id, last.position + 1, last.fold)
    found = (row.id, row.word_id, row.position, row.fold)
    names = ("letter", "word", "position", "fold")
    for what, right, wrong in zip(names, expected, found, strict=True):
        if right != wrong:
            raise DataError(
                f"{where}: the letter chain is broken: {what} {right} should follow, "
                f"but this is {what} {wrong}"
            )


def _word(rows: Sequence[_Row]) -> Word:
    bits = np.frombuffer("".join(row.pixels for row in rows).encode(), dtype=np.uint8)
    return Word(
        letters="".join(row.letter for row in rows),
        pixels=(bits - ord("0")).astype(np.float32).reshape(len(rows), PIXELS),
        fold=rows[0].fold,
        lines=tuple(row.line for row in rows),
    )


def extract_words(table: Table) -> list[Word]:
    """Read the words of a table: the columns `pixels` and `word`.

    Raises:
        DataError: if a column or row is wrong. The message names it.
    """
    images, spellings = table.find_column(["pixels"]), table.find_column(["word"])
    words = []
    for row in table.rows:
        where, spelling = row.place, row.get(spellings)
        if not isinstance(spelling, str):
            raise DataError(f"{where}: the word is {spelling!r:.40}; it must be text")
        for letter in spelling:
            if letter not in LETTERS:
                raise DataError(f"{where}: the letter {letter!r} is not one of {LETTERS}")
        if not spelling:
            raise DataError(f"{where}: the word is empty")
        try:
            pixels = np.array(row.get(images), dtype=np.float32)
        except (TypeError, ValueError):
            raise DataError(f"{where}: the pixels are not rows of {PIXELS} numbers") from None
        if pixels.shape != (len(spelling), PIXELS):
            raise DataError(
                f"{where}: pixels of shape {list(pixels.shape)}; a word of {len(spelling)} "
                f"letters has {[len(spelling), PIXELS]}"
            )
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise DataError(f"{where}: a pixel lies outside 0 … 1")
        words.append(Word(spelling, pixels))
    return words
