"""Handwritten words: images of letters to letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from freerun.data import Codec, DataError, Sources, Splits
from freerun.data.files import read_lines
from freerun.data.folders import is_dataset, load_splits
from freerun.data.images import read_image_rows
from freerun.data.letters import LETTERS, PIXELS, Word, extract_words, is_letter_data, read_words
from freerun.data.rows import Row
from freerun.data.splits import count_shared, describe_sizes, hold_out
from freerun.data.tokens import Tokens
from freerun.tasks.base import Recipe, Task

Parts = tuple[dict[str, list[Word]], list[str]]
"""The words of every split, and notes on their origin."""


@dataclass(frozen=True)
class Ocr(Task):
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
    metrics: ClassVar[tuple[str, ...]] = ("hamming_error", "exact_match")
    cost: ClassVar[str] = "hamming"
    recipe: ClassVar[Recipe] = {
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
    target_tokens: ClassVar[Tokens] = Tokens("characters", alphabet=LETTERS)
    fixed_length: ClassVar[bool] = True

    data: str
    fold: int = 0
    seed: int = 0

    def rows(self) -> Splits[Row]:
        """Read and split the words.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        parts, notes = self._read_dataset() if is_dataset(self.data) else self._read_folds()
        train, dev, test = parts["train"], parts["dev"], parts["test"]
        known = {word.letters for word in train}
        notes += [
            describe_sizes(parts, "words"),
            f"{count_shared(map(_key, test), map(_key, (*train, *dev)))} test words have the same "
            "pixels as a word of train or dev",
            f"{sum(word.letters in known for word in test)} of {len(test)} test words have the "
            "letters of a word of train",
        ]
        return Splits({name: [word.row for word in part] for name, part in parts.items()}, notes)

    def read_examples(self, path: str) -> list[Row]:
        """Read the words of another letter.data, of all its folds.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return [word.row for word in read_words(read_lines(path), path)]

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read words to predict from: letter.data (its letters are ignored), or images.

        Images are one per line, 128 numbers, with a blank line between words.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        if not is_letter_data(lines):
            return codec.encode_sources(read_image_rows(lines, PIXELS, name), name)
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        words = read_words(numbered, name, check_letters=False)
        return codec.encode_sources([word.row for word in words], name)

    def _read_folds(self) -> Parts:
        """Split by folds: one to test on, a tenth of the others as dev."""
        words = read_words(read_lines(self.data), self.data)
        folds = sorted({word.fold for word in words})
        if self.fold not in folds:
            known = ", ".join(map(str, folds))
            raise DataError(f"{self.data}: no word is in fold {self.fold}; its folds are {known}")
        others = [word for word in words if word.fold != self.fold]
        test = [word for word in words if word.fold == self.fold]
        train, dev = hold_out(others, _key, self.data, self.seed, "ocr dev")
        note = f"test is fold {self.fold}; dev is a tenth of the others, drawn by seed {self.seed}"
        return {"train": train, "dev": dev, "test": test}, [note]

    def _read_dataset(self) -> Parts:
        """Read the splits of a dataset; missing ones are tenths of train."""
        if self.fold:
            raise DataError(f"{self.data}: a dataset has splits, no folds; leave fold out")
        parts = {name: extract_words(table) for name, table in load_splits(self.data).items()}
        notes = []
        for name in ("test", "dev"):
            if name not in parts:
                held = hold_out(parts["train"], _key, self.data, self.seed, f"ocr {name}")
                parts["train"], parts[name] = held
                notes.append(f"{name} is a tenth of train, drawn by seed {self.seed}")
        return parts, notes


def _key(word: Word) -> bytes:
    return word.key
