"""Misspelt text to text."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from freerun.data import (
    Augmentation,
    Codec,
    DataError,
    Row,
    Sources,
    Splits,
    TextCodec,
    TextExamples,
    Tokens,
)
from freerun.data.noise import Misspelling, SymbolNoise
from freerun.data.prose import (
    SYMBOLS,
    cut_windows,
    normalize,
    read_python_documentation,
    read_text,
    read_texts,
)
from freerun.data.splits import (
    add_missing_splits,
    describe_sizes,
    limit_to_tenth,
    note_shared,
    subsample,
)
from freerun.data.store import StoredExamples
from freerun.tasks.base import Recipe, Task


@dataclass(frozen=True)
class Spelling(Task):
    """Misspelt text: every symbol is replaced by a uniform one with probability `noise`.

    As in Leblond et al. 2018 (arXiv 1706.04499), text is lower-cased, has 43 symbols (letters,
    digits, space and . , ' " - ?), and is cut into windows of a few characters. Accents are
    dropped, and typographic quotes and dashes become plain ones; other characters become spaces;
    runs of white space become one space. The text is cut into consecutive windows, and equal
    windows stay in one split. A replacement is drawn from all 43 symbols, and may equal the
    original one. Noise is fixed by seed, but redrawn every epoch in training if the model reads
    characters.

    Args:
        data: a text file, plain or gzipped, or a `datasets` id or folder with a column `text`; by
            default the documentation that comes with Python.
        noise: the probability that a symbol is replaced, in [0, 1].
        length: the number of characters in a window.
        train_size: the maximum number of windows to train on, drawn by seed; by default all.
        dev_size: the maximum number of windows in dev, at most a tenth of all if the data have no
            dev split.
        test_size: the maximum number of windows in test, likewise.
        seed: the seed of the split and of the noise.
    """

    name: ClassVar[str] = "spelling"
    summary: ClassVar[str] = "misspelt text to text; Python's documentation, or any text file"
    metrics: ClassVar[tuple[str, ...]] = ("character_error", "exact_match")
    cost: ClassVar[str] = "edit_distance"
    recipe: ClassVar[Recipe] = {
        "model": {
            "cell": "gru",
            "hidden_size": 100,
            "embedding_size": 100,
            "bidirectional": True,
            "attention": "general",
        },
        "training": {
            "updates": 3_000,
            "batch_size": 128,
            "learning_rate": 3e-3,
            "lr_schedule": "linear",
            "evaluate_every": 500,
        },
    }

    source_tokens: ClassVar[Tokens] = Tokens("characters", alphabet=SYMBOLS)
    target_tokens: ClassVar[Tokens] = source_tokens

    data: str | None = None
    noise: float = 0.3
    length: int = 10
    train_size: int | None = None
    dev_size: int = 2_000
    test_size: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if a setting is out of range. The message names it.
        """
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise is {self.noise}; it must lie in 0 … 1")
        self.check_sizes("length", "train_size", "dev_size", "test_size")

    def rows(self) -> Splits[Row]:
        """Read, cut, split and misspell the text.

        Sources have the noise of the first epoch of training.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        parts, notes = self._parts()
        return Splits({name: self._misspell(part, name) for name, part in parts.items()}, notes)

    def augment(self, codec: Codec, split: str, examples: StoredExamples) -> Augmentation | None:
        """Return noise that is redrawn every epoch in training, if the model reads characters."""
        characters = isinstance(codec, TextCodec) and codec.source is not None
        if split != "train" or not characters or not isinstance(examples, TextExamples):
            return None
        return Misspelling.from_texts(examples.texts, SYMBOLS, self._noise(split))

    def read_examples(self, path: str) -> list[Row]:
        """Read the windows of another text file, with noise as in training, fixed by seed.

        Raises:
            DataError: if the file is missing, empty or not UTF-8.
        """
        text, _ = normalize(read_text(path)[0], SYMBOLS)
        if not text:
            raise DataError(f"{path}: no text is left in the symbols {SYMBOLS!r}")
        return self._misspell(cut_windows(text, self.length), "evaluation")

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read misspelled text to correct: one source per line, of at most `length` characters.

        It is normalized like training text.

        Raises:
            DataError: if a line is too long, or empty.
        """
        if not lines:
            raise DataError(f"{name}: nothing to read")
        rows: list[Row] = []
        for number, line in enumerate(lines, 1):
            source, _ = normalize(line, SYMBOLS)
            if not source:
                raise DataError(f"{name}, line {number}: there is nothing to correct")
            if len(source) > self.length:
                raise DataError(
                    f"{name}, line {number}: {len(source)} characters; the model reads at most "
                    f"{self.length}, so break the line"
                )
            rows.append({"source": source, "lines": [line]})
        return codec.encode_sources(rows, name)

    def _misspell(self, texts: Sequence[str], split: str) -> list[Row]:
        sources = Misspelling.from_texts(texts, SYMBOLS, self._noise(split)).texts(SYMBOLS)
        pairs = zip(sources, texts, strict=True)
        return [{"source": source, "target": text} for source, text in pairs]

    def _noise(self, split: str) -> SymbolNoise:
        return SymbolNoise(
            rate=self.noise,
            symbols=len(SYMBOLS),
            seed=self.seed,
            stream=f"spelling {split}",
            redrawn=split == "train",
        )

    def _parts(self) -> tuple[dict[str, list[str]], list[str]]:
        """Return the windows of every split, and notes on them."""
        texts, notes = self._texts()
        parts = {name: self._windows(text, name, notes) for name, text in texts.items()}
        self._complete(parts, notes)
        notes += note_shared(parts, str, "windows")
        notes.append(describe_sizes(parts, f"windows of {self.length} characters"))
        return parts, notes

    def _texts(self) -> tuple[dict[str, str], list[str]]:
        """Read the text of every given split; also return notes on it."""
        if self.data is None:
            note = f"the text is the help of Python {platform.python_version()}"
            return {"train": read_python_documentation()}, [note]
        texts, notes = read_texts(self.data)
        return {name: "\n".join(part) for name, part in texts.items()}, notes

    def _windows(self, text: str, name: str, notes: list[str]) -> list[str]:
        """Cut the text of a split into windows."""
        text, lost = normalize(text, SYMBOLS)
        if not text:
            source = self.data if name == "train" else f"{self.data} ({name})"
            raise DataError(f"{source}: no text is left in the symbols {SYMBOLS!r}")
        if lost:
            commonest = ", ".join(f"{c!r} {count}" for c, count in lost.most_common(5))
            notes.append(
                f"{lost.total()} characters outside the {len(SYMBOLS)} symbols became spaces, of "
                f"{len(text)} in all; the commonest: {commonest}"
            )
        return cut_windows(text, self.length)

    def _complete(self, parts: dict[str, list[str]], notes: list[str]) -> None:
        """Take missing splits out of train, and reduce all to their sizes."""
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        where, what = self.data or "Python's documentation", ("windows", "texts")
        stream = (self.seed, "spelling split")
        most = limit_to_tenth(sizes, parts["train"])
        add_missing_splits(parts, str, most, *stream, where=where, what=what)
        notes += subsample(parts, sizes, self.seed, "spelling", "windows")
