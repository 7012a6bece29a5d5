"""Misspelt text to text."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from freerun.data import Codec, Data, DataError, Examples, Splits
from freerun.data.codec import SavedCodec
from freerun.data.files import column, is_dataset, load_splits
from freerun.data.noise import SymbolNoise
from freerun.data.prose import SYMBOLS, normalize, python_documentation, read_text, windows
from freerun.data.splits import complete, cut, shared
from freerun.data.store import Ragged, Stored
from freerun.data.text import TextCodec, TextExamples
from freerun.tasks.scored import CharacterTask
from freerun.vocabulary import EOS, Vocabulary


@dataclass(frozen=True)
class SpellingCodec(SavedCodec):
    """Characters in, characters and eos out.

    Args:
        length: the most characters of a source.
        noise: the probability that a symbol is replaced, in files to evaluate on.
        seed: the seed of that noise.
        symbols: the characters that are read and written.
    """

    task = "spelling"
    features = None
    length: int
    noise: float
    seed: int
    symbols: str = SYMBOLS

    @cached_property
    def source(self) -> Vocabulary:
        """The symbols and eos, which no source has."""
        return Vocabulary.build(self.symbols, eos=True)

    @cached_property
    def target(self) -> Vocabulary:
        """The symbols and eos."""
        return self.source.with_backspace() if self.backspace else self.source

    @property
    def factors(self) -> tuple[int, ...]:
        """A position of the source has one character."""
        return (self.source.size,)

    @property
    def limit(self) -> int:
        """Half as many characters again as the longest target, and eos."""
        return self.length + self.length // 2 + 1

    def read(self, lines: Sequence[str], name: str) -> Stored:
        """Misspelt text to correct: every line is a source, of at most `length` characters.

        It is normalised like the text of training: see `Spelling`.

        Raises:
            DataError: where a line is too long, or empty.
        """
        if not lines:
            raise DataError(f"{name}: nothing to read")
        sources = [normalize(line, self.symbols)[0] for line in lines]
        for number, source in enumerate(sources, 1):
            if not source:
                raise DataError(f"{name}, line {number}: there is nothing to correct")
            if len(source) > self.length:
                raise DataError(
                    f"{name}, line {number}: {len(source)} characters; the model reads at most "
                    f"{self.length}, so break the line"
                )
        rows = Ragged.of([self.source.encode(source) for source in sources], self.source.pad)
        empty = Ragged.of([[] for _ in lines], self.target.pad)
        return Stored(rows, empty, eos=False, lines=[[line] for line in lines])

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The corrected text."""
        return "".join(self.target.decode(tokens))

    def source_text(self, values: Tensor) -> str:
        """The misspelt text."""
        return "".join(self.source.decode(values.tolist()))

    def evaluation(self, path: str) -> Stored:
        """The windows of another text file, misspelt as in training by noise fixed by seed.

        Raises:
            DataError: where the file is missing, empty or not UTF-8.
        """
        return self.examples(self.windows_of(path), "evaluation")

    def windows_of(self, path: str) -> list[str]:
        """The windows of a text file.

        Raises:
            DataError: where the file is missing, empty or not UTF-8.
        """
        text, _ = normalize(read_text(path)[0], self.symbols)
        if not text:
            raise DataError(f"{path}: no text is left in the symbols {self.symbols!r}")
        return windows(text, self.length)

    def examples(self, texts: Sequence[str], stream: str) -> Stored:
        """Texts as examples, with noise that is redrawn every epoch where `stream` is train."""
        noise = SymbolNoise(
            rate=self.noise,
            symbols=len(self.symbols),
            seed=self.seed,
            stream=f"spelling {stream}",
            redrawn=stream == "train",
        )
        end = [self.source.ids[EOS]]
        rows = [self.source.encode(text) + end for text in texts]
        sources, targets = (Ragged.of(rows, side.pad) for side in (self.source, self.target))
        return Stored(sources.shortened(1), targets, eos=True, draw=noise)

    def misspelt(self, texts: Sequence[str], stream: str) -> list[str]:
        """Texts as sources, with the noise of the first epoch of `examples`."""
        batch = self.examples(texts, stream).batch(range(len(texts)))
        rows = zip(batch.source.values, batch.source.mask, strict=True)
        return [self.source_text(values[mask]) for values, mask in rows]


@dataclass(frozen=True)
class Spelling(CharacterTask):
    """Misspelt text: every symbol is replaced by a uniform one with probability `noise`.

    The recipe of Leblond et al. 2018 (arXiv 1706.04499): lower-cased text of 43 symbols (letters,
    digits, space and . , ' " - ?), a few characters at a time. Accents are dropped, and typographic
    quotes and dashes made plain; other characters become spaces; runs of white space become one
    space. The text is cut into consecutive windows, and equal windows stay in one split. A
    replacement is drawn from all 43 symbols, and may be the one that stood there. Noise is redrawn
    every epoch in training, and fixed by seed elsewhere.

    Args:
        data: a text file, plain or gzipped, or a `datasets` id or folder with a column `text`; left
            out, the documentation that comes with Python.
        noise: the probability that a symbol is replaced, in [0, 1].
        length: the characters of a window.
        train_size: the most windows to train on, drawn by seed; left out, all.
        dev_size: the most windows of dev, and at most a tenth of all where the split is ours.
        test_size: the most windows of test, likewise.
        seed: the seed of the split, and of the noise.
    """

    name: ClassVar[str] = "spelling"
    summary: ClassVar[str] = "misspelt text to text; Python's documentation, or any text file"
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
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
            ValueError: naming the setting that is out of range.
        """
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise is {self.noise}; it must lie in 0 … 1")
        for name in ("length", "train_size", "dev_size", "test_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")

    def load(self) -> Data:
        """Read, cut and split the text.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        codec = SpellingCodec(length=self.length, noise=self.noise, seed=self.seed)
        parts, notes = self._parts()
        train, dev, test = (codec.examples(parts[name], name) for name in ("train", "dev", "test"))
        return Data(train, dev, test, codec, notes)

    def texts(self) -> Splits[tuple[str, str]]:
        """The windows of every split, misspelt and as they are; noise is that of the first epoch.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        codec = SpellingCodec(length=self.length, noise=self.noise, seed=self.seed)
        parts, notes = self._parts()
        pairs = {
            name: zip(codec.misspelt(part, name), part, strict=True) for name, part in parts.items()
        }
        return Splits(pairs, [*notes, "the noise of training is the same in every epoch"])

    def evaluation(self, codec: Codec, path: str) -> Examples:
        """The windows of another text file, misspelt as in training by noise fixed by seed.

        Raises:
            DataError: where the file is missing, empty or not UTF-8.
        """
        own = SpellingCodec(length=self.length, noise=self.noise, seed=self.seed)
        if not isinstance(codec, TextCodec):
            return codec.evaluation(path)
        clean = own.windows_of(path)
        pairs = list(zip(own.misspelt(clean, "evaluation"), clean, strict=True))
        return TextExamples.of_texts(pairs, codec, path)

    def _parts(self) -> tuple[dict[str, list[str]], list[str]]:
        """The windows of every split, and notes on them."""
        texts, notes = self._texts()
        parts = {name: self._windows(text, name, notes) for name, text in texts.items()}
        self._complete(parts, notes)
        for name in ("dev", "test"):
            count = shared(parts[name], parts["train"])
            if count:
                notes.append(f"{count} windows of {name} also stand in train")
        sizes = ", ".join(f"{name} {len(parts[name])}" for name in ("train", "dev", "test"))
        notes.append(f"{sizes} windows of {self.length} characters")
        return parts, notes

    def _texts(self) -> tuple[dict[str, str], list[str]]:
        """The text of every split that is given, and notes on it."""
        if self.data is None:
            version = platform.python_version()
            return {"train": python_documentation()}, [f"the text is the help of Python {version}"]
        if not is_dataset(self.data):
            text, notes = read_text(self.data)
            return {"train": text}, notes
        texts = {}
        for name, rows in load_splits(self.data).items():
            cells = rows[column(rows, ["text"], f"{self.data} ({name})")]
            texts[name] = "\n".join(cell or "" for cell in cells)
        return texts, []

    def _windows(self, text: str, name: str, notes: list[str]) -> list[str]:
        """The windows of a split's text."""
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
        return windows(text, self.length)

    def _complete(self, parts: dict[str, list[str]], notes: list[str]) -> None:
        """Take the splits that are missing out of train, and cut all to their sizes."""
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        total = len(parts["train"])
        own = {"dev": self.dev_size, "test": self.test_size}
        complete(parts, str, own, self.seed, "spelling split")
        if not all(parts.values()):
            source = self.data or "Python's documentation"
            raise DataError(f"{source}: {total} windows are too few to split")
        notes += cut(parts, sizes, self.seed, "spelling", "windows")
