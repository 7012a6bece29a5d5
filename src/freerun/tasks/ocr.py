"""Handwritten words: images of letters to letters."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from freerun.data import Data, DataError
from freerun.data.files import blocks, is_dataset, load_splits, read_lines
from freerun.data.images import pixels, stacked, unlabelled
from freerun.data.letters import PIXELS, WIDTH, Word, read_dataset, read_words
from freerun.data.saved import SavedCodec
from freerun.data.splits import hold_out, shared
from freerun.data.store import Ragged, Stored
from freerun.tasks.scored import CellTask
from freerun.vocabulary import Vocabulary

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
            name: read_dataset(rows, letters, f"{self.data} ({name})")
            for name, rows in splits.items()
        }
        train, notes = given.pop("train"), []
        for name in ("test", "dev"):
            if name not in given:
                train, given[name] = hold_out(train, _key, self.data, self.seed, f"ocr {name}")
                notes.append(f"{name} is a tenth of train, drawn by seed {self.seed}")
        return train, given["dev"], given["test"], notes


def _key(word: Word) -> bytes:
    return word.key
