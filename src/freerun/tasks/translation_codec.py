"""What a translator reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from freerun.data import DataError
from freerun.data.parallel import Columns, Pair, read_table
from freerun.data.pieces import BytePairs, Pieces, Words, commonest_words
from freerun.data.saved import SavedCodec
from freerun.data.store import Ragged, Stored
from freerun.vocabulary import EOS, UNKNOWN, Vocabulary

UNMATCHED = "\ue000"
"""What `<unk>` is for metrics: a character of private use, which equals nothing."""


@dataclass(frozen=True, eq=False)
class Translations(Stored):
    """Examples that keep the text of their references, as it was read.

    Args:
        texts: the text of every reference.
    """

    texts: Sequence[str] = ()


@dataclass(frozen=True)
class TranslationCodec(SavedCodec):
    """Words in and words out, or byte-pair tokens.

    Args:
        tokens: `words` or `bpe`.
        lower: whether text is read in lower case.
        tokenised: whether words are what stands between spaces.
        longest: the most tokens of a target of training.
        source_column: the column of the source in files to evaluate on (see `read_table`).
        target_column: that of the target.
        source_symbols: the tokens of the source.
        target_symbols: those of the target.
        source_merges: of byte-pair tokens, which were made of which (see `BytePairs`).
        target_merges: the same of the target.

    Raises:
        ValueError: where `tokens` is neither, or a merge is not of symbols.
        MissingExtraError: where `tokenizers` is needed and not installed.
    """

    task = "translation"
    features = None
    tokens: str
    lower: bool
    tokenised: bool
    longest: int
    source_column: int | str
    target_column: int | str
    source_symbols: tuple[str, ...]
    target_symbols: tuple[str, ...]
    source_merges: tuple[str, ...] = ()
    target_merges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make what reads and writes, or say what is wrong."""
        if self.tokens not in ("words", "bpe"):
            raise ValueError(f"tokens is {self.tokens!r}; it must be words or bpe")
        self.source, self.source_pieces, self.target_pieces  # noqa: B018

    @classmethod
    def learn(
        cls,
        pairs: Sequence[Pair],
        *,
        tokens: str,
        lower: bool,
        tokenised: bool,
        sizes: tuple[int, int],
        columns: Columns,
    ) -> TranslationCodec:
        """The codec of pairs to train on.

        Args:
            pairs: the pairs.
            tokens: `words` or `bpe`.
            lower: whether text is read in lower case.
            tokenised: whether words are what stands between spaces.
            sizes: how many tokens the source and the target have at most, special ones left out.
            columns: where the two sides stand in files to evaluate on.

        Raises:
            MissingExtraError: where `tokenizers` is needed and not installed.
        """
        symbols: list[tuple[str, ...]] = []
        merges: list[tuple[str, ...]] = []
        longest = 0
        for side, size in zip(zip(*pairs, strict=True), sizes, strict=True):
            texts = [text.lower() if lower else text for text in side]
            pieces: Pieces = Words(tokenised=tokenised)
            if tokens == "words":
                symbols.append(commonest_words(map(pieces.split, texts), size))
                merges.append(())
            else:
                found, merged = BytePairs.learn(texts, size)
                pieces = BytePairs(found, merged)
                symbols.append(found)
                merges.append(merged)
            longest = max(len(pieces.split(text)) for text in texts)
        return cls(tokens, lower, tokenised, longest, *columns, *symbols, *merges)

    @cached_property
    def source(self) -> Vocabulary:
        """The tokens that are read."""
        return Vocabulary.build(self.source_symbols, eos=False, unknown=self.tokens == "words")

    @cached_property
    def target(self) -> Vocabulary:
        """The tokens that are written; words have `<unk>` for what is none of them."""
        found = Vocabulary.build(self.target_symbols, eos=True, unknown=self.tokens == "words")
        return found.with_backspace() if self.backspace else found

    @cached_property
    def source_pieces(self) -> Pieces:
        """What cuts a source into tokens."""
        return self._pieces(self.source_symbols, self.source_merges)

    @cached_property
    def target_pieces(self) -> Pieces:
        """What cuts a target into tokens."""
        return self._pieces(self.target_symbols, self.target_merges)

    @property
    def factors(self) -> tuple[int, ...]:
        """A position of the source has one token."""
        return (self.source.size,)

    @property
    def limit(self) -> int:
        """Half as many tokens again as the longest target of training, and eos."""
        return self.longest + self.longest // 2 + 1

    def read(self, lines: Sequence[str], name: str) -> Stored:
        """Text to translate, every line a source.

        Raises:
            DataError: where a line is empty.
        """
        if not lines:
            raise DataError(f"{name}: nothing to read")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise DataError(f"{name}, line {number}: there is nothing to translate")
        empty = Ragged.of([[] for _ in lines], self.target.pad)
        return Stored(self._sources(lines), empty, eos=False, lines=[[line] for line in lines])

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The translation."""
        return self.text(tokens)

    def text(self, tokens: Sequence[int], unknown: str = UNKNOWN) -> str:
        """The text of a target, with `unknown` for each word that is none of the vocabulary."""
        symbols = self.target.decode(tokens)
        if self.target.unknown is not None:
            symbols = [unknown if symbol == UNKNOWN else symbol for symbol in symbols]
        return self.target_pieces.join(symbols)

    def source_text(self, values: Tensor) -> str:
        """The text of a source as it was read, with `<unk>` for words that training never met."""
        return self.source_pieces.join(self.source.decode(values.tolist()))

    def evaluation(self, path: str) -> Translations:
        """The pairs of another file with columns between tabs (see `read_table`).

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        return self.examples(read_table(path, Columns(self.source_column, self.target_column)))

    def examples(self, pairs: Sequence[Pair]) -> Translations:
        """Pairs as examples."""
        texts = [pair.target for pair in pairs]
        end = self.target.ids[EOS]
        targets = [[*self.target.encode(self._cut(self.target_pieces, t)), end] for t in texts]
        rows = Ragged.of(targets, self.target.pad)
        return Translations(self._sources([p.source for p in pairs]), rows, eos=True, texts=texts)

    def _sources(self, texts: Sequence[str]) -> Ragged:
        rows = [self.source.encode(self._cut(self.source_pieces, text)) for text in texts]
        return Ragged.of(rows, self.source.pad)

    def _cut(self, pieces: Pieces, text: str) -> list[str]:
        return pieces.split(text.lower() if self.lower else text)

    def _pieces(self, symbols: Sequence[str], merges: Sequence[str]) -> Pieces:
        if self.tokens == "words":
            return Words(tokenised=self.tokenised)
        return BytePairs(symbols, merges)
