"""What a tagger reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from freerun.tasks.base import DataError
from freerun.tasks.codec import SavedCodec
from freerun.tasks.conll import Sentence, read_sentences
from freerun.tasks.files import read_lines
from freerun.tasks.store import Draw, Ragged, Stored
from freerun.tasks.words import PAD, UNKNOWN, Reader
from freerun.vocabulary import UNKNOWN as UNSEEN
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True)
class TaggingCodec(SavedCodec):
    """Words in, one tag each out.

    Args:
        tags: the tags that can be written, in IOB2.
        entries: for every factor (word, first three characters, last three, shape), the forms that
            training met, in the order of their ids.
        token_column: the column of the token in files, counted from 0.
        tag_column: the column of the tag, likewise; negative counts from the end.
    """

    task = "tagging"
    features = None
    limit = None
    tags: tuple[str, ...]
    entries: tuple[tuple[str, ...], ...]
    token_column: int
    tag_column: int

    @cached_property
    def target(self) -> Vocabulary:
        """The tags."""
        return Vocabulary.build(self.tags, eos=False)

    @cached_property
    def reader(self) -> Reader:
        """What reads words."""
        return Reader(self.entries)

    @property
    def factors(self) -> tuple[int, ...]:
        """Forms, padding and unknown."""
        return tuple(len(factor) + UNKNOWN + 1 for factor in self.entries)

    def read(self, lines: Sequence[str], name: str) -> Stored:
        """Sentences to tag: a token a line in the column of training, a blank line between them.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        sentences = read_sentences(enumerate(lines, 1), name, self.token_column, None)
        empty = Ragged.of([[] for _ in sentences], self.target.pad)
        return Stored(
            self._sources(sentences), empty, eos=False, lines=[s.lines for s in sentences]
        )

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The lines of the sentence with a column for the tag, and a blank line."""
        tags = self.target.decode(tokens)
        tab = any("\t" in line for line in source) or not any(" " in line for line in source)
        separator = "\t" if tab else " "
        pairs = zip(source, tags, strict=True)
        return "".join(f"{line}{separator}{tag}\n" for line, tag in pairs)

    def text(self, tokens: Sequence[int]) -> str:
        """The tags with a space between them."""
        return " ".join(self.target.decode(tokens))

    def source_text(self, values: Tensor) -> str:
        """The words as they were read: in lower case, and `<unk>` for those of no training."""
        known = (UNSEEN, *self.entries[0])
        return " ".join(known[word - UNKNOWN] for word in values[:, 0].tolist())

    def evaluation(self, path: str) -> Stored:
        """The tagged sentences of another column file.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        lines = read_lines(path)
        return self.examples(read_sentences(lines, path, self.token_column, self.tag_column))

    def examples(self, sentences: Sequence[Sentence], draw: Draw | None = None) -> Stored:
        """Sentences as examples.

        Raises:
            DataError: where a tag is unseen in training.
        """
        for sentence in sentences:
            for tag, place in zip(sentence.tags, sentence.places, strict=True):
                if tag not in self.target.ids:
                    raise DataError(
                        f"{sentence.name}, {place}: the tag {tag} is unseen in training, which has "
                        f"{', '.join(self.tags)}"
                    )
        targets = [self.target.encode(sentence.tags) for sentence in sentences]
        rows = Ragged.of(targets, self.target.pad)
        return Stored(self._sources(sentences), rows, eos=False, draw=draw)

    def _sources(self, sentences: Sequence[Sentence]) -> Ragged:
        """The forms of every word."""
        words = [token for sentence in sentences for token in sentence.tokens]
        values = [*self.reader.read(words), [PAD] * len(self.entries)]
        return Ragged.stack(values, (len(sentence.tokens) for sentence in sentences))
