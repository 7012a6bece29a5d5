"""Sentences to their translations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from freerun.data import Codec, DataError, Sources, Splits
from freerun.data.parallel import (
    Columns,
    Pair,
    count_words,
    note_shared_pairs,
    read_pairs,
    read_parts,
)
from freerun.data.rows import Row
from freerun.data.splits import add_missing_splits, describe_sizes, subsample
from freerun.data.tokens import Tokens
from freerun.metrics import Metric
from freerun.tasks.base import Recipe, Task

MAX_HELD_OUT_PAIRS = 2_000
"""The default maximum number of pairs of a dev or test set that is split off."""


@dataclass(frozen=True)
class Translation(Task):
    """Sentences and their translations.

    By default text is cut into words and punctuation marks. The most frequent are known, and all
    others are `<unk>`, which is never right. If dev or test is missing, it is taken out of train at
    random: all pairs with the same target stay in one split.

    Args:
        data: a file with one pair per line and tabs between columns, plain, gzipped or in a zip
            archive; or a `datasets` id or folder.
        source_column: the column of the source: its number, counted from 0, or its name, if the
            first line names the columns. In a dataset, a language of the column `translation`, or a
            column.
        target_column: the column of the target, likewise.
        subset: the subset of a dataset that has several, such as de-en.
        train_source: the file of sources to train on, one per line, instead of `data`.
        train_target: their translations, line by line.
        dev_source: the sources to choose settings and checkpoints by, with train_source.
        dev_target: their translations.
        test_source: the sources to test on, with train_source.
        test_target: their translations.
        source_tokens: the tokens of sources for a model without a tokenizer: words:N, symbols:N
            (between spaces), bpe:N, characters, bytes, or the path of a tokenizer.
        target_tokens: the tokens of targets, likewise.
        lower: whether to convert all text to lower case.
        length: the maximum number of words and punctuation marks on either side of a training pair;
            longer pairs are left out.
        train_size: the maximum number of pairs to train on, drawn by seed; by default all.
        dev_size: the maximum number of pairs in dev; by default all if the data have a dev split,
            else a tenth of all pairs, at most 2000.
        test_size: the maximum number of pairs in test, likewise.
        seed: the seed of the split and of the choice of pairs.
    """

    name: ClassVar[str] = "translation"
    summary: ClassVar[str] = "sentences to their translations (parallel text)"
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "exact_match")
    cost: ClassVar[str] = "bleu"
    data_settings: ClassVar[tuple[str, ...]] = (
        "data",
        *(f"{split}_{side}" for split in ("train", "dev", "test") for side in ("source", "target")),
    )
    recipe: ClassVar[Recipe] = {
        "model": {
            "cell": "gru",
            "hidden_size": 256,
            "embedding_size": 128,
            "bidirectional": True,
            "attention": "additive",
            "dropout": 0.1,
        },
        "training": {
            "updates": 2_500,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "lr_schedule": "linear",
            "evaluate_every": 500,
        },
    }

    data: str | None = None
    source_column: int | str = 0
    target_column: int | str = 1
    subset: str | None = None
    train_source: str | None = None
    train_target: str | None = None
    dev_source: str | None = None
    dev_target: str | None = None
    test_source: str | None = None
    test_target: str | None = None
    source_tokens: str = "words:8000"
    target_tokens: str = "words:5000"
    lower: bool = False
    length: int = 50
    train_size: int | None = None
    dev_size: int | None = None
    test_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the combination of settings.

        Raises:
            ValueError: if a setting is wrong. The message names it.
        """
        self.check_sizes("length", "train_size", "dev_size", "test_size")
        for tokens in (self.source_tokens, self.target_tokens):
            Tokens.parse(tokens)
        columns = self.columns
        if isinstance(columns.source, str) != isinstance(columns.target, str):
            raise ValueError("source_column and target_column must both be numbers or both names")
        if columns.source == columns.target:
            raise ValueError(f"source_column and target_column are both {columns.source}")
        for name, column in columns._asdict().items():
            if isinstance(column, int) and column < 0:
                raise ValueError(f"{name}_column is {column}; columns are counted from 0")
        for name, (source, target) in self.files.items():
            if (source is None) != (target is None):
                given, other = ("source", "target") if source else ("target", "source")
                raise ValueError(f"{name}_{given} is given without {name}_{other}")
        named = [f"{name}_source" for name, (source, _) in self.files.items() if source]
        if self.data and named:
            raise ValueError(f"data is given together with {named[0]}; give one or the other")
        if not self.data and "train_source" not in named:
            raise ValueError("translation needs data, or train_source and train_target")

    @property
    def columns(self) -> Columns:
        """The columns of source and target in a file or a dataset."""
        return Columns(self.source_column, self.target_column)

    @property
    def files(self) -> dict[str, tuple[str | None, str | None]]:
        """For train, dev and test, the file of the sources and that of the targets."""
        return {
            "train": (self.train_source, self.train_target),
            "dev": (self.dev_source, self.dev_target),
            "test": (self.test_source, self.test_target),
        }

    def rows(self) -> Splits[Row]:
        """Read, check and split the pairs.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        parts = read_parts(self.data, self.files, self.columns, self.subset)
        where = str(self.data or self.train_source)
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        stream, what = (self.seed, "translation split"), ("pairs", "targets")
        most = MAX_HELD_OUT_PAIRS
        add_missing_splits(parts, self._key, sizes, *stream, where=where, what=what, default=most)
        notes = []
        every = parts["train"]
        parts["train"] = [pair for pair in every if max(map(self._count, pair)) <= self.length]
        if not parts["train"]:
            raise DataError(
                f"{where}: all pairs to train on have over {self.length} words on a side"
            )
        if left := len(every) - len(parts["train"]):
            notes.append(
                f"{left} pairs of train were left out: they have over {self.length} words on a side"
            )
        notes += subsample(parts, sizes, self.seed, "translation", "pairs")
        notes += note_shared_pairs(parts)
        notes.append(describe_sizes(parts, "pairs"))
        return Splits({name: self._rows(part) for name, part in parts.items()}, notes)

    def read_examples(self, path: str) -> list[Row]:
        """Read the pairs of another file with the same columns.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return self._rows(read_pairs(path, self.columns))

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read text to translate: every line is a source.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return codec.read([line.lower() if self.lower else line for line in lines], name)

    def get_metrics(self) -> dict[str, Metric]:
        """Return the metrics to report; BLEU and chrF depend on how text is read."""
        case = f"lowercase={str(self.lower).lower()}"
        rules = "none" if self._between_spaces else "auto"
        own = (f"bleu:{case},tokenize={rules}", f"chrf:{case}", "exact_match")
        return self.order_metrics([*own, *self.extra_metrics])

    @property
    def _between_spaces(self) -> bool:
        return self.target_tokens.startswith("symbols")

    def _count(self, text: str) -> int:
        return len(text.split()) if self._between_spaces else count_words(text)

    def _key(self, pair: Pair) -> str:
        """Return the key by which pairs are equal when they are split."""
        plain = " ".join(pair.target.split())
        return plain.lower() if self.lower else plain

    def _rows(self, pairs: Sequence[Pair]) -> list[Row]:
        plain = str.lower if self.lower else str
        return [{"source": plain(pair.source), "target": plain(pair.target)} for pair in pairs]
