"""What a model that continues text reads and writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import Tensor

from freerun.data import DataError
from freerun.data.pieces import BytePairs
from freerun.data.prose import paragraphs, pieces, read_text
from freerun.data.saved import SavedCodec
from freerun.data.store import Ragged, Stored, Tokens
from freerun.vocabulary import EOS, Vocabulary

KINDS = ("characters", "bpe")
"""What tokens may be."""


@dataclass(frozen=True, eq=False)
class Continuations(Stored):
    """Examples of which only those end in eos that were not cut off.

    Args:
        end: the token that ends a target, eos.
    """

    end: int = -1

    @property
    def references(self) -> Tokens:
        """The target tokens of every example, without eos."""
        rows = self.targets
        last = rows.values[rows.starts + rows.lengths - 1]
        return Tokens(Ragged(rows.values, rows.starts, rows.lengths - (last == self.end).long()))


@dataclass(frozen=True)
class ContinuationCodec(SavedCodec):
    """Characters, or byte-pair tokens, in and out: prompts are in the tokens of what follows them.

    Args:
        tokens: `characters` or `bpe`.
        prompt: the most tokens of a prompt.
        length: the most tokens of a continuation, eos included.
        symbols: the tokens.
        merges: of byte-pair tokens, which were made of which (see `BytePairs`).

    Raises:
        ValueError: where `tokens` is neither, or a merge is not of symbols.
    """

    task = "text"
    shared = True
    features = None
    tokens: str
    prompt: int
    length: int
    symbols: tuple[str, ...]
    merges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make what reads and writes, or say what is wrong."""
        if self.tokens not in KINDS:
            raise ValueError(f"tokens is {self.tokens!r}; it must be {' or '.join(KINDS)}")
        self.pairs  # noqa: B018

    @classmethod
    def learn(
        cls, texts: Iterable[str], *, tokens: str, size: int, prompt: int, length: int
    ) -> ContinuationCodec:
        """The codec of texts to train on.

        Characters that come only once are unknown ones, so that a model learns what those are.

        Args:
            texts: the paragraphs.
            tokens: `characters` or `bpe`.
            size: the most byte-pair tokens.
            prompt: the most tokens of a prompt.
            length: the most tokens of a continuation.
        """
        if tokens == "bpe":
            return cls(tokens, prompt, length, *BytePairs.learn(texts, size))
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        known = tuple(sorted(c for c, count in counts.items() if count > 1))
        return cls(tokens, prompt, length, known)

    @cached_property
    def source(self) -> Vocabulary:
        """The tokens of the text and eos, which no prompt has."""
        return Vocabulary.build(self.symbols, eos=True, unknown=self.tokens == "characters")

    @cached_property
    def target(self) -> Vocabulary:
        """The tokens of the text and eos; characters have `<unk>` for what is none of them."""
        return self.source.with_backspace() if self.backspace else self.source

    @cached_property
    def pairs(self) -> BytePairs | None:
        """What cuts text into byte-pair tokens, if they are such."""
        return BytePairs(self.symbols, self.merges) if self.tokens == "bpe" else None

    @property
    def factors(self) -> tuple[int, ...]:
        """A position of the source has one token."""
        return (self.source.size,)

    @property
    def limit(self) -> int:
        """As many tokens as a target has at most; half as many actions more with a backspace."""
        return self.length + (self.length // 2 if self.backspace else 0)

    @property
    def plural(self) -> str:
        """What tokens are called."""
        return "characters" if self.pairs is None else "byte-pair tokens"

    def note(self, rows: Iterable[Sequence[int]]) -> str:
        """A note on the tokens, and how many characters of other text are unknown."""
        if self.pairs is not None:
            return f"{len(self.symbols)} {self.plural}"
        tokens = [token for row in rows for token in row]
        share = tokens.count(cast(int, self.source.unknown)) / len(tokens)
        return f"{len(self.symbols)} {self.plural} are known; {share:.2%} of those of test are not"

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without eos."""
        return self.source.encode(text if self.pairs is None else self.pairs.split(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens up to eos, as it stands: it may begin with a space."""
        symbols = self.target.decode(tokens)
        return "".join(symbols) if self.pairs is None else self.pairs.decode(symbols)

    def read(self, lines: Sequence[str], name: str) -> Stored:
        """Prompts to go on from, a line each; of a longer one the last `prompt` tokens are read.

        Raises:
            DataError: where a line is empty.
        """
        if not lines:
            raise DataError(f"{name}: nothing to read")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise DataError(f"{name}, line {number}: there is no prompt")
        # A space at the end is kept, as it says that the last word is whole.
        ends = ["" if line == line.rstrip() else " " for line in lines]
        texts = [" ".join(line.split()) + end for line, end in zip(lines, ends, strict=True)]
        if self.pairs is not None:  # whose tokens begin with the space before a word
            texts = [text.rstrip() for text in texts]
        sources = Ragged.of([self.encode(text)[-self.prompt :] for text in texts], self.source.pad)
        empty = Ragged.of([[] for _ in lines], self.target.pad)
        return Stored(sources, empty, eos=False, lines=[[line] for line in lines])

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The continuation alone, as it stands."""
        return self.decode(tokens)

    def source_text(self, values: Tensor) -> str:
        """The prompt."""
        return self.decode(values.tolist())

    def evaluation(self, path: str) -> Continuations:
        """The beginnings of the paragraphs of another text file.

        Raises:
            DataError: where the file is missing, empty or not UTF-8, or no paragraph is longer than
                the prompt.
        """
        rows = [self.encode(text) for text in paragraphs(read_text(path)[0])]
        rows = [row for row in rows if len(row) > self.prompt]
        if not rows:
            raise DataError(
                f"{path}: no paragraph has more than {self.prompt} {self.plural}, the length of a "
                "prompt"
            )
        return self.examples(rows)

    def examples(self, rows: Iterable[Sequence[int]], *, whole: bool = False) -> Continuations:
        """The tokens of paragraphs as examples.

        Args:
            rows: the tokens of every paragraph, more than `prompt`.
            whole: whether all of it is made examples of, or the beginning (see `pieces`).
        """
        end = self.source.ids[EOS]
        found = [
            (prompt, rest[: self.length])
            for row in rows
            for prompt, rest in pieces([*row, end], self.prompt, self.length, whole=whole)
        ]
        prompts, targets = zip(*found, strict=True)
        sides = Ragged.of(prompts, self.source.pad), Ragged.of(targets, self.target.pad)
        return Continuations(*sides, eos=True, end=end)
