"""Sentences to tags: named entities, chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch

from freerun.data import Codec, Data, DataError, Examples
from freerun.data.conll import Sentence, find_files, read_dataset, read_sentences
from freerun.data.extras import extra
from freerun.data.files import decode_lines, is_dataset, load_splits, read_bytes, read_lines
from freerun.data.saved import SavedCodec
from freerun.data.splits import hold_out, shared
from freerun.data.store import Draw, Ragged, Stored
from freerun.data.words import PAD, UNKNOWN, Lexicon, Reader, UnknownNoise
from freerun.tasks.scored import CellTask
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


@dataclass(frozen=True)
class Tagging(CellTask):
    """Named entities or chunks: one tag for each word, in IOB2, and no eos.

    A word is read as four tokens, whose embeddings a model adds up: the word in lower case, its
    first and its last three characters, and its shape. Files are in columns, a token a line, with a
    blank line between sentences; IOB1 is read as IOB2. The splits are those of the files; where dev
    is missing, it is a seeded tenth of train that shares no sentence with the rest.

    Args:
        data: a folder or zip archive with files whose names say train, dev (or valid, testa) and
            test (or testb), plain or gzipped; or a `datasets` id or folder with a column `tokens`
            and one of tags.
        train: the file to train on, instead of `data`.
        dev: the file to choose settings and checkpoints by, instead of `data`.
        test: the file to report on, instead of `data`.
        token_column: the column of the token in files, counted from 0.
        tag_column: the column of the tag in files; negative counts from the end.
        label_column: the column of the tags in a dataset; left out, the first there is of ner_tags,
            tags, labels and chunk_tags.
        unknown: the probability that in training a form that comes once is read as unknown.
        seed: the seed of the split, and of these draws.
    """

    name: ClassVar[str] = "tagging"
    summary: ClassVar[str] = "words to named entities or chunks (CoNLL column files)"
    metric: ClassVar[str] = "f1"
    greater_is_better: ClassVar[bool] = True
    cost: ClassVar[str] = "chunk_f1"
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "model": {
            "cell": "lstm",
            "hidden_size": 128,
            "embedding_size": 64,
            "bidirectional": True,
            "attention": "aligned",
            "dropout": 0.3,
        },
        "training": {
            "updates": 2_000,
            "batch_size": 32,
            "learning_rate": 3e-3,
            "lr_schedule": "linear",
            "evaluate_every": 250,
        },
    }

    data: str | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    token_column: int = 0
    tag_column: int = -1
    label_column: str | None = None
    unknown: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings against each other.

        Raises:
            ValueError: naming the setting that is wrong.
        """
        if not 0 <= self.unknown <= 1:
            raise ValueError(f"unknown is {self.unknown}; it must lie in 0 … 1")
        files = self.train or self.dev or self.test
        if self.data and files:
            raise ValueError("data is given beside train, dev or test; give the one or the others")
        if not self.data and not (self.train and self.test):
            raise ValueError("tagging needs data, or train and test: there is none to begin with")

    def load(self) -> Data:
        """Read, check and split the sentences.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        parts = self._parts()
        for name in ("train", "test"):
            if name not in parts:
                raise DataError(
                    f"{self.data}: there is no {name} split; a file whose name holds the word "
                    f"{name}, or a dataset's split of that name, is needed"
                )
        notes = _overlaps(parts)
        begun = sum(sentence.begun for part in parts.values() for sentence in part)
        if begun:
            notes.append(f"{begun} tags I- that begin an entity were read as B- (as IOB1 has them)")
        train = parts["train"]
        tags = tuple(sorted({tag for sentence in train for tag in sentence.tags}))
        if "dev" not in parts:
            train, parts["dev"] = hold_out(train, _tokens, train[0].name, self.seed, "tagging dev")
            notes.append(f"dev is a tenth of train, drawn by seed {self.seed}")
        dev, test = parts["dev"], parts["test"]
        notes.append(f"train {len(train)}, dev {len(dev)}, test {len(test)} sentences")
        lexicon = Lexicon.of(chain.from_iterable(sentence.tokens for sentence in train))
        codec = TaggingCodec(tags, lexicon.entries, self.token_column, self.tag_column)
        noise = UnknownNoise(self.unknown, torch.tensor(lexicon.first), self.seed)
        examples = codec.examples
        return Data(examples(train, noise), examples(dev), examples(test), codec, notes)

    def _parts(self) -> dict[str, list[Sentence]]:
        """The sentences of every split that is given."""
        if self.data is None:
            paths = {"train": self.train, "dev": self.dev, "test": self.test}
            files = {name: (path, read_bytes(path)) for name, path in paths.items() if path}
        elif Path(self.data).is_file() and Path(self.data).suffix != ".zip":
            raise DataError(
                f"{self.data}: one file; give a folder or a zip archive, or train= and test="
            )
        elif not is_dataset(self.data):
            files = find_files(self.data)
        else:
            files = find_files(self.data) if Path(self.data).is_dir() else {}
            if not files:
                return {
                    name: read_dataset(rows, f"{self.data} ({name})", self.label_column)
                    for name, rows in load_splits(self.data).items()
                }
        if self.label_column is not None:
            raise DataError(
                f"{self.data or self.train}: label_column is for datasets; these are files"
            )
        return {
            name: read_sentences(decode_lines(raw, path), path, self.token_column, self.tag_column)
            for name, (path, raw) in files.items()
        }

    def score(
        self,
        codec: Codec,
        hypotheses: Sequence[Sequence[int]],
        examples: Examples,
    ) -> dict[str, float]:
        """The F1 of entities (micro, as conlleval counts them), and the errors of tags.

        An output's I- tag that does not continue an entity of its type begins one.

        Raises:
            ValueError: where an output is not as long as its reference.
            MissingExtraError: where `seqeval` is not installed.
        """
        seqeval = extra("seqeval.metrics", "tagging", "the F1 of entities")
        errors = super().score(codec, hypotheses, examples)
        predicted, true = (
            [codec.target.decode(row) for row in rows] for rows in (hypotheses, examples.references)
        )
        return {"f1": float(seqeval.f1_score(true, predicted, zero_division=0)), **errors}


def _tokens(sentence: Sentence) -> tuple[str, ...]:
    return sentence.tokens


def _tagged(sentence: Sentence) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return sentence.tokens, sentence.tags


def _overlaps(parts: Mapping[str, Sequence[Sentence]]) -> list[str]:
    """Notes on sentences that stand in two of the given splits."""
    notes = []
    for one, other in (("test", "train"), ("test", "dev"), ("dev", "train")):
        if one in parts and other in parts:
            count = shared(map(_tokens, parts[one]), map(_tokens, parts[other]))
            alike = shared(map(_tagged, parts[one]), map(_tagged, parts[other]))
            notes.append(
                f"{count} of {len(parts[one])} sentences of {one} also stand in {other}, "
                f"{alike} of them with the same tags"
            )
    return notes
