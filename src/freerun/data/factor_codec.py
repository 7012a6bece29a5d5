"""The codec of tagged words: several ids for each word of a source, and one tag for each."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.data.codec import Codec, build_codec, read_fields, write_fields
from freerun.data.examples import TextExamples
from freerun.data.files import group_lines
from freerun.data.rows import Row, name_rows, plain_row
from freerun.data.store import Ragged, StoredExamples
from freerun.errors import DataError
from freerun.randomness import uniform
from freerun.vocabulary import UNKNOWN as UNKNOWN_SYMBOL
from freerun.vocabulary import Vocabulary

PAD, UNKNOWN = 0, 1
"""The ids of padding and of forms that are not in training; other ids follow."""

_RUN = re.compile(r"(.)\1+", re.DOTALL)


def forms(word: str) -> tuple[str, str, str, str]:
    """Return a word in lower case, its first three characters, its last three, and its shape.

    The shape has X for capitals, x for other letters, 0 for digits, and other characters unchanged;
    each run of one of them is written once. That of "B2-Straße" is "X0-Xx".
    """
    lower = word.lower()
    kinds = "".join(
        "X" if c.isupper() else "x" if c.isalpha() else "0" if c.isdigit() else c for c in word
    )
    return lower, lower[:3], lower[-3:], _RUN.sub(r"\1", kinds)


@dataclasses.dataclass(frozen=True)
class FactorCodec(Codec):
    """A codec that reads a word as several ids, whose embeddings are added, and writes its tag.

    Args:
        tags: the tags that can be written.
        entries: for every factor (word, first three characters, last three, shape; see `forms`),
            the forms in training, in the order of their ids, the most frequent first.
        token_column: the column of the word in files, counted from 0 (see `read`).
    """

    kind = "factors"
    features = None
    limit = None

    tags: tuple[str, ...]
    entries: tuple[tuple[str, ...], ...]
    token_column: int = 0

    @classmethod
    def learn(cls, train: Sequence[Row], *, token_column: int = 0) -> FactorCodec:
        """Learn a codec from rows with the columns `tokens` and `tags`.

        Args:
            train: the rows to train on.
            token_column: the column of the word in files to predict from.
        """
        counts = Counter(chain.from_iterable(row["tokens"] for row in train))
        entries = []
        for factor in zip(*map(forms, counts), strict=True):
            total: Counter[str] = Counter()
            for form, count in zip(factor, counts.values(), strict=True):
                total[form] += count
            entries.append(tuple(form for form, _ in total.most_common()))
        tags = sorted({tag for row in train for tag in row["tags"]})
        return cls(tuple(tags), tuple(entries), token_column)

    @cached_property
    def target(self) -> Vocabulary:
        """The tags."""
        return Vocabulary.build(self.tags, eos=False)

    @property
    def factors(self) -> tuple[int, ...]:
        """The numbers of forms of each factor, including padding and unknown."""
        return tuple(len(factor) + UNKNOWN + 1 for factor in self.entries)

    def encode(self, rows: Iterable[Row], name: str = "the data") -> TextExamples:
        """Encode rows with the columns `tokens` and `tags`, lists of text of the same length.

        A column `places` may contain the names of the words in messages, such as "line 7".

        Args:
            rows: the rows.
            name: where they come from, for messages.

        Raises:
            DataError: if a row cannot be encoded. The message names it and what is expected.
        """
        rows = [plain_row(row) for row in rows]
        if not rows:
            raise DataError(f"{name}: there are no rows")
        places = name_rows(rows, name)
        unseen = [found for pair in zip(rows, places, strict=True) if (found := self._check(*pair))]
        ids, pad = self.target.ids, self.target.pad
        targets = [[ids.get(tag, pad) for tag in row["tags"]] for row in rows]
        return TextExamples(
            self._sources(rows, places),
            Ragged.from_rows(targets, pad),
            eos=False,
            texts=[" ".join(row["tags"]) for row in rows],
            unseen=unseen,
        )

    def encode_sources(self, rows: Iterable[Row], name: str = "the data") -> StoredExamples:
        """Encode rows with the column `tokens`, to predict from.

        Raises:
            DataError: if a row cannot be encoded. The message names it and what is expected.
        """
        rows = [plain_row(row) for row in rows]
        empty = Ragged.from_rows([[] for _ in rows], self.target.pad)
        sources = self._sources(rows, name_rows(rows, name))
        return StoredExamples(
            sources, empty, eos=False, lines=[row.get("lines", ()) for row in rows]
        )

    def read(self, lines: Sequence[str], name: str) -> StoredExamples:
        """Read sentences to tag: one word per line, in the column of training; blank lines between.

        Columns are separated by tabs if the first line has any, else by spaces.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        found = group_lines(enumerate(lines, 1))
        if not found:
            raise DataError(f"{name}: nothing to read")
        tab = "\t" in found[0].lines[0][1]
        rows = []
        for block in found:
            words = [
                self._word(line, tab, f"{name}, line {number}") for number, line in block.lines
            ]
            rows.append({"tokens": words, "lines": block.text})
        return self.encode_sources(rows, name)

    def write(self, tokens: Sequence[int], lines: Sequence[str]) -> str:
        """Return the lines of the sentence with a column for the tag, and a blank line."""
        tags = self.target.decode(tokens)
        tab = any("\t" in line for line in lines) or not any(" " in line for line in lines)
        separator = "\t" if tab else " "
        return "".join(f"{line}{separator}{tag}\n" for line, tag in zip(lines, tags, strict=True))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the tags with a space between them."""
        return " ".join(self.target.decode(tokens))

    def source_text(self, values: Tensor) -> str:
        """Return the words in lower case, and `<unk>` for those that are not in training."""
        known = (UNKNOWN_SYMBOL, *self.entries[0])
        return " ".join(known[word - UNKNOWN] for word in values[:, 0].tolist())

    def save_pretrained(self, directory: str) -> None:
        """Write codec.json into `directory`."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        write_fields(self, directory)

    @classmethod
    def from_pretrained(cls, directory: str) -> FactorCodec:
        """Load the codec in `directory`.

        Raises:
            DataError: if there is none, it is of another kind, or a field is missing, unknown or
                of the wrong type.
        """
        path, settings = read_fields(cls, directory)
        return build_codec(cls, path, **settings)

    @cached_property
    def _ids(self) -> list[dict[str, int]]:
        """For every factor, the ids of its forms."""
        return [{form: i for i, form in enumerate(f, UNKNOWN + 1)} for f in self.entries]

    def _sources(self, rows: Sequence[Row], places: Sequence[str]) -> Ragged:
        """Encode every word as the ids of its forms."""
        for row, where in zip(rows, places, strict=True):
            tokens = row.get("tokens")
            listed = isinstance(tokens, Sequence) and not isinstance(tokens, str)
            if not listed or not tokens or not all(isinstance(word, str) for word in tokens):
                raise DataError(f"{where}: tokens is {tokens!r:.40}; it must be a list of words")
        words = [word for row in rows for word in row["tokens"]]
        known: Mapping[str, list[int]] = {
            word: [ids.get(form, UNKNOWN) for ids, form in zip(self._ids, forms(word), strict=True)]
            for word in dict.fromkeys(words)
        }
        values = [*(known[word] for word in words), [PAD] * len(self.entries)]
        return Ragged.from_values(values, (len(row["tokens"]) for row in rows))

    def _check(self, row: Row, where: str) -> str | None:
        """Check that every word has a tag; return a message on one that cannot be written."""
        tokens, tags = row.get("tokens") or [], row.get("tags") or []
        if not isinstance(tags, Sequence) or not all(isinstance(tag, str) for tag in tags):
            raise DataError(f"{where}: tags is {tags!r:.40}; it must be a list of text")
        if len(tokens) != len(tags):
            raise DataError(f"{where}: {len(tokens)} tokens and {len(tags)} tags")
        for i, tag in enumerate(tags):
            if tag not in self.target.ids:
                place = row["places"][i] if "places" in row else f"token {i}"
                return (
                    f"{where}, {place}: the tag {tag} is unseen in training, which has "
                    f"{', '.join(self.tags)}"
                )
        return None

    def _word(self, line: str, tab: bool, where: str) -> str:
        """Return the word in a line of columns."""
        cells = [c.strip(" ") for c in line.split("\t")] if tab else line.split()
        if not -len(cells) <= self.token_column < len(cells):
            raise DataError(
                f"{where}: no column {self.token_column}; there are {len(cells)}, counted from 0"
            )
        if not cells[self.token_column]:
            raise DataError(f"{where}: the token is empty")
        return cells[self.token_column]


@dataclasses.dataclass(frozen=True, eq=False)
class UnknownNoise:
    """Noise that reads forms that occur once in training as unknown, to train that embedding.

    Each is replaced with probability `rate`, drawn anew in every epoch, and for every factor.

    Args:
        rate: the probability, in [0, 1].
        first: for every factor, the first of the ids that occur once; so do all after it.
        seed: the seed of the draws.
    """

    rate: float
    first: Int[Tensor, "f"]
    seed: int

    @classmethod
    def from_examples(cls, examples: StoredExamples, rate: float, seed: int) -> UnknownNoise:
        """Return the noise on training examples, from which the codec was learned."""
        counts = [column.bincount() for column in examples.sources.values[:-1].long().T]
        first = [UNKNOWN + 1 + int((count[UNKNOWN + 1 :] > 1).sum()) for count in counts]
        return cls(rate, torch.tensor(first), seed)

    def __call__(
        self,
        values: Int[Tensor, "b s f"],
        mask: Bool[Tensor, "b s"],
        ids: Int[Tensor, "b"],
        epoch: int,
    ) -> Int[Tensor, "b s f"]:
        """Return the tokens of examples `ids` in `epoch`."""
        _, cells, factors = (torch.arange(size) for size in values.shape)
        draws = uniform(
            self.seed, "tagging unknown", epoch, ids[:, None, None], cells[:, None], factors
        )
        return torch.where((values >= self.first) & (draws < self.rate), UNKNOWN, values)
