"""Sentences to tags: named entities, chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from freerun.data import Codec, DataError, Sources, Splits
from freerun.data.conll import (
    Sentence,
    extract_sentences,
    find_files,
    note_shared_sentences,
    read_sentences,
)
from freerun.data.factor_codec import UnknownNoise
from freerun.data.files import decode_lines, get_suffix, read_bytes, read_lines
from freerun.data.folders import is_dataset, load_splits
from freerun.data.rows import Row
from freerun.data.splits import describe_sizes, hold_out
from freerun.data.store import Augmentation, StoredExamples
from freerun.data.tables import FORMATS
from freerun.tasks.base import Recipe, Task


@dataclass(frozen=True)
class Tagging(Task):
    """Named entities or chunks: one tag for each word, in IOB2, and no eos.

    A word is read as four tokens, whose embeddings are added: the word in lower case, its first and
    its last three characters, and its shape. Files have columns, one token per line, and a blank
    line between sentences; IOB1 is read as IOB2. The splits are those of the files; if dev is
    missing, it is a random tenth of train that shares no sentence with the rest.

    Args:
        data: a folder or zip archive with files whose names say train, dev (or valid, testa) and
            test (or testb), plain or gzipped; or a `datasets` id or folder with a column `tokens`
            and one of tags.
        train: the file to train on, instead of `data`.
        dev: the file to choose settings and checkpoints by, instead of `data`.
        test: the file to test on, instead of `data`.
        token_column: the column of the token in files, counted from 0.
        tag_column: the column of the tag in files; negative counts from the end.
        label_column: the column of the tags in a dataset; by default ner_tags, tags, labels or
            chunk_tags, whichever exists first.
        unknown: the probability that a word that occurs once is read as unknown in training.
        seed: the seed of the split and of unknown words.
    """

    name: ClassVar[str] = "tagging"
    summary: ClassVar[str] = "words to named entities or chunks (CoNLL column files)"
    metrics: ClassVar[tuple[str, ...]] = ("chunk_f1", "hamming_error", "exact_match")
    cost: ClassVar[str] = "chunk_f1"
    recipe: ClassVar[Recipe] = {
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
        """Check the combination of settings.

        Raises:
            ValueError: if a setting is wrong. The message names it.
        """
        if not 0 <= self.unknown <= 1:
            raise ValueError(f"unknown is {self.unknown}; it must lie in 0 … 1")
        files = self.train or self.dev or self.test
        if self.data and files:
            raise ValueError(
                "data is given together with train, dev or test; give one or the other"
            )
        if not self.data and not (self.train and self.test):
            raise ValueError("tagging needs data, or train and test")

    def rows(self) -> Splits[Row]:
        """Read, check and split the sentences.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        parts = self._read()
        for name in ("train", "test"):
            if name not in parts:
                raise DataError(
                    f"{self.data}: there is no {name} split; a file whose name holds the word "
                    f"{name}, or a dataset's split of that name, is needed"
                )
        notes = note_shared_sentences(parts)
        changed = sum(sentence.changed for part in parts.values() for sentence in part)
        if changed:
            notes.append(
                f"{changed} tags I- that begin an entity were read as B- (as IOB1 has them)"
            )
        if "dev" not in parts:
            train = parts["train"]
            held = hold_out(train, _tokens, train[0].name, self.seed, "tagging dev")
            parts["train"], parts["dev"] = held
            notes.append(f"dev is a tenth of train, drawn by seed {self.seed}")
        notes.append(describe_sizes(parts, "sentences"))
        return Splits({name: [s.row for s in part] for name, part in parts.items()}, notes)

    def augment(self, codec: Codec, split: str, examples: StoredExamples) -> Augmentation | None:
        """Return the noise that reads rare forms as unknown in training."""
        return (
            UnknownNoise.from_examples(examples, self.unknown, self.seed)
            if split == "train"
            else None
        )

    def read_examples(self, path: str) -> list[Row]:
        """Read the tagged sentences of another column file.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        found = read_sentences(read_lines(path), path, self.token_column, self.tag_column)
        return [sentence.row for sentence in found]

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read sentences to tag: one token per line in its column, and a blank line after each.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        if get_suffix(name) in {*FORMATS} - {".tsv"}:
            raise DataError(
                f"{name}: sentences to tag are read from a text file with one token per line, and "
                "a blank line after each"
            )
        found = read_sentences(enumerate(lines, 1), name, self.token_column, None)
        return codec.encode_sources([sentence.row for sentence in found], name)

    def _read(self) -> dict[str, list[Sentence]]:
        """Read the sentences of every given split."""
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
                    name: extract_sentences(table, self.label_column)
                    for name, table in load_splits(self.data).items()
                }
        if self.label_column is not None:
            raise DataError(
                f"{self.data or self.train}: label_column is for datasets; these are files"
            )
        return {
            name: read_sentences(decode_lines(raw, path), path, self.token_column, self.tag_column)
            for name, (path, raw) in files.items()
        }


def _tokens(sentence: Sentence) -> tuple[str, ...]:
    return sentence.tokens
