"""Handwritten words: images of letters to letters."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from freerun.data import Data, DataError
from freerun.data.codec import SavedCodec
from freerun.data.files import Line, blocks, column, is_dataset, load_splits, read_lines
from freerun.data.images import pixels, stacked, unlabelled
from freerun.data.splits import hold_out, shared
from freerun.data.store import Ragged, Stored
from freerun.tasks.scored import CellTask
from freerun.vocabulary import Vocabulary

PIXELS = 128
COLUMNS = ("id", "letter", "next_id", "word_id", "position", "fold")
WIDTH = len(COLUMNS) + PIXELS


@dataclass(frozen=True)
class Word:
    """A handwritten word.

    Args:
        letters: how it is spelt.
        pixels: one image a letter, 16 rows of 8 pixels.
        fold: the fold it belongs to.
        lines: the lines it was read from.
    """

    letters: str
    pixels: Float[np.ndarray, "letters 128"]
    fold: int = 0
    lines: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """What equal words have in common: every pixel."""
        return self.pixels.tobytes()


def read_words(lines: Iterable[Line], name: str, letters: str | None) -> list[Word]:
    """The words of letter.data.

    A line is a letter: id, letter, next_id (-1 ends the word), word_id, position, fold, 128 pixels.

    Args:
        lines: the lines, with their numbers.
        name: the file's name, for messages.
        letters: the letters that may occur; None does not look at them.

    Raises:
        DataError: where a line has not 134 columns or a wrong one, or the letters of a word do not
            follow each other.
    """
    words: list[Word] = []
    rows: list[_Row] = []
    number = 0
    for number, line in lines:
        row = _Row.parse(line, f"{name}, line {number}", letters)
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
    def parse(cls, line: str, where: str, letters: str | None) -> _Row:
        cells = line.removesuffix("\t").split("\t")
        if len(cells) != WIDTH:
            columns = f"{len(cells)} tab-separated column{'s' if len(cells) > 1 else ''}"
            raise DataError(f"{where}: {columns}; letter.data has {WIDTH}")
        head = dict(zip(COLUMNS, cells, strict=False))
        letter = head.pop("letter")
        if letters is not None and (len(letter) != 1 or letter not in letters):
            raise DataError(f"{where}: the letter is {letter!r}; it must be one of {letters}")
        for column_name, cell in head.items():
            if not cell.removeprefix("-").isdecimal():
                raise DataError(f"{where}: {column_name} is {cell!r}; it must be a whole number")
        if not {"0", "1"}.issuperset(cells[len(COLUMNS) :]):
            raise DataError(f"{where}: a pixel is neither 0 nor 1")
        numbers = {column_name: int(cell) for column_name, cell in head.items()}
        return cls(letter=letter, pixels="".join(cells[len(COLUMNS) :]), line=line, **numbers)


def _check_chain(rows: Sequence[_Row], row: _Row, where: str) -> None:
    """That `row` continues a word whose letters so far are `rows`.

    Raises:
        DataError: where it does not.
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


def read_rows(split: Any, letters: str, name: str) -> list[Word]:
    """The words of a dataset's split: the columns `pixels` and `word`.

    Raises:
        DataError: naming the column or the row, where it is not right.
    """
    images, spellings = column(split, ["pixels"], name), column(split, ["word"], name)
    words = []
    for number, (image, spelling) in enumerate(zip(split[images], split[spellings], strict=True)):
        where = f"{name}, row {number}"
        for letter in spelling:
            if letter not in letters:
                raise DataError(f"{where}: the letter {letter!r} is not one of {letters}")
        if not spelling:
            raise DataError(f"{where}: the word is empty")
        try:
            pixels = np.array(image, dtype=np.float32)
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


Split = tuple[list[Word], list[Word], list[Word], list[str]]
"""Words to train, choose and test on, and notes on where they are from."""


@dataclass(frozen=True)
class OcrCodec(SavedCodec):
    """Images of 128 pixels in, one letter each out.

    Args:
        letters: the letters that can be written.
    """

    task = "ocr"
    features = PIXELS
    factors = ()
    limit = None
    letters: str = string.ascii_lowercase

    @cached_property
    def target(self) -> Vocabulary:
        """The letters."""
        return Vocabulary.build(self.letters, eos=False)

    def read(self, lines: Sequence[str], name: str) -> Stored:
        """Words to predict from: letter.data (its letters are not looked at), or images.

        Images come one a line, 128 numbers in [0, 1], with a blank line between words.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        found = blocks(enumerate(lines, 1))
        if not found:
            raise DataError(f"{name}: nothing to read")
        if found[0].text[0].count("\t") >= WIDTH - 1:
            words = read_words((line for block in found for line in block.lines), name, None)
            return unlabelled([word.pixels for word in words], [word.lines for word in words])
        images = [pixels(block.lines, PIXELS, name) for block in found]
        return unlabelled(images, [block.text for block in found])

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The word."""
        return "".join(self.target.decode(tokens))

    def evaluation(self, path: str) -> Stored:
        """The words of another letter.data, of all its folds.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        return self.examples(read_words(read_lines(path), path, self.letters))

    def examples(self, words: Sequence[Word]) -> Stored:
        """Words as examples."""
        targets = Ragged.of([self.target.encode(word.letters) for word in words], self.target.pad)
        return Stored(stacked([word.pixels for word in words]), targets, eos=False)


@dataclass(frozen=True)
class Ocr(CellTask):
    """Handwritten words (Kassel 1995, prepared by Taskar et al. 2003): one letter for each image.

    Every output is as long as its word, and there is no eos.

    Args:
        data: letter.data, plain or gzipped; or a `datasets` id or folder with the columns `pixels`
            (a list of 128 numbers in [0, 1] for every letter) and `word`.
        fold: the fold to test on; dev is a seeded tenth of the others. Only letter.data has folds.
        seed: the seed of the split.
    """

    name: ClassVar[str] = "ocr"
    summary: ClassVar[str] = "images of handwritten letters to a word (letter.data)"
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "model": {
            "cell": "gru",
            "hidden_size": 128,
            "embedding_size": 128,
            "bidirectional": True,
            "attention": "aligned",
            "dropout": 0.3,
        },
        "training": {
            "updates": 3_000,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "lr_schedule": "linear",
            "evaluate_every": 500,
        },
    }

    data: str
    fold: int = 0
    seed: int = 0

    def load(self) -> Data:
        """Read and split the words.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        codec = OcrCodec()
        train, dev, test, notes = self._dataset() if is_dataset(self.data) else self._folds()
        known = {word.letters for word in train}
        notes += [
            f"train {len(train)}, dev {len(dev)}, test {len(test)} words",
            f"{shared((w.key for w in test), (w.key for w in (*train, *dev)))} test words have the "
            "very pixels of a word of train or dev",
            f"{sum(word.letters in known for word in test)} of {len(test)} test words are spelt "
            "like a word of train",
        ]
        return Data(codec.examples(train), codec.examples(dev), codec.examples(test), codec, notes)

    def _folds(self) -> Split:
        """One fold to test on, a tenth of the others as dev."""
        words = read_words(read_lines(self.data), self.data, OcrCodec().letters)
        folds = sorted({word.fold for word in words})
        if self.fold not in folds:
            known = ", ".join(map(str, folds))
            raise DataError(f"{self.data}: no word is in fold {self.fold}; its folds are {known}")
        others = [word for word in words if word.fold != self.fold]
        test = [word for word in words if word.fold == self.fold]
        train, dev = hold_out(others, _key, self.data, self.seed, "ocr dev")
        note = f"test is fold {self.fold}; dev is a tenth of the others, drawn by seed {self.seed}"
        return train, dev, test, [note]

    def _dataset(self) -> Split:
        """The splits of a dataset; those that it does not have are tenths of train."""
        if self.fold:
            raise DataError(f"{self.data}: a dataset has splits, no folds; leave fold out")
        splits = load_splits(self.data)
        letters = OcrCodec().letters
        given = {
            name: read_rows(rows, letters, f"{self.data} ({name})") for name, rows in splits.items()
        }
        train, notes = given.pop("train"), []
        for name in ("test", "dev"):
            if name not in given:
                train, given[name] = hold_out(train, _key, self.data, self.seed, f"ocr {name}")
                notes.append(f"{name} is a tenth of train, drawn by seed {self.seed}")
        return train, given["dev"], given["test"], notes


def _key(word: Word) -> bytes:
    return word.key
