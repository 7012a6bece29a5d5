"""What a corrector of spelling reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from freerun.tasks.base import DataError
from freerun.tasks.codec import SavedCodec
from freerun.tasks.noise import SymbolNoise
from freerun.tasks.store import Ragged, Stored
from freerun.tasks.text import SYMBOLS, normalise, read_text, windows
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
        sources = [normalise(line, self.symbols)[0] for line in lines]
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
        text, _ = normalise(read_text(path)[0], self.symbols)
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
