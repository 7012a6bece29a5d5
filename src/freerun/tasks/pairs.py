"""Prompts and completions, in the columns that others use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from freerun.data import KINDS, Data, DataError, Splits, Truncation
from freerun.data.files import read_splits
from freerun.data.rows import kind_of
from freerun.data.splits import complete, cut
from freerun.tasks.scored import CharacterTask

OWN = 1_000
"""The most rows of a dev or test set of our own, where no size is given."""


@dataclass(frozen=True)
class Pairs(CharacterTask):
    """Prompts and their completions, for models with a tokenizer.

    Rows have the columns `prompt` and `completion` (text, or messages), `messages`, `source` and
    `target`, `text`, or `input_ids` and `labels`: see `TextCodec.encode`. Where dev or test
    is missing, it is taken out of train at random: rows with equal prompts stay in one split.

    Args:
        data: a file (.jsonl, .json, .csv, .tsv, .parquet), or a `datasets` id or folder.
        subset: the part of a dataset that has several.
        max_prompt: the most tokens of a prompt; left out, any number.
        max_completion: the most tokens of a completion, eos included; left out, any number.
        truncation: what becomes of rows with more: refuse them (error), cut off the start or the
            end of the prompt and the end of the completion (start, end), or leave them out (drop).
        separator: what stands between the columns source and target for causal models; left out,
            a line break.
        block: the most tokens of a piece of running text; left out, each text is one piece.
        train_size: the most rows to train on, drawn by seed; left out, all.
        dev_size: the most rows of dev; left out, all where they are given, else a tenth of all,
            1000 at most.
        test_size: the most rows of test, likewise.
        seed: the seed of the split, and of what is drawn.
    """

    name: ClassVar[str] = "pairs"
    summary: ClassVar[str] = "prompts to completions, for models with a tokenizer (files, datasets)"
    metric: ClassVar[str] = "exact_match"
    greater_is_better: ClassVar[bool] = True

    data: str
    subset: str | None = None
    max_prompt: int | None = None
    max_completion: int | None = None
    truncation: Truncation = "error"
    separator: str | None = None
    block: int | None = None
    train_size: int | None = None
    dev_size: int | None = None
    test_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: naming the setting that is out of range or has no effect.
        """
        sizes = ("max_prompt", "max_completion", "block", "train_size", "dev_size", "test_size")
        for name in sizes:
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if self.truncation != "error" and self.max_prompt is None and self.max_completion is None:
            raise ValueError(
                f"truncation is {self.truncation}, which has no effect without max_prompt or "
                "max_completion"
            )

    def load(self) -> Data:
        """Without the tokenizer of a model, rows are no tokens.

        Raises:
            DataError: always.
        """
        raise DataError(
            "pairs is read in the tokens of a trained model: name one, --model DIR or an id on the "
            "Hugging Face hub; in Python, give its tokenizer to load_data()"
        )

    def texts(self) -> Splits[tuple[str, str]]:
        """The splits as pairs of text.

        Raises:
            DataError: as `rows` does, or where rows are not two columns of text.
        """
        rows = self.rows()
        kind = kind_of(rows["train"][0], self.data)
        if kind not in ("prompt", "source"):
            raise DataError(f"{self.data}: rows of {kind} are no pairs of texts")
        one, other = KINDS[kind]
        pairs = {name: [(row[one], row[other]) for row in part] for name, part in rows.items()}
        if not all(isinstance(text, str) for part in pairs.values() for p in part for text in p):
            raise DataError(f"{self.data}: conversations are no pairs of texts")
        return Splits(pairs, rows.notes)

    def rows(self) -> Splits[Mapping[str, Any]]:
        """Read and split the rows.

        Raises:
            DataError: naming the file and what would be right.
            MissingExtraError: where `datasets` is not installed.
        """
        given = read_splits(self.data, self.subset)
        parts: dict[str, list[Mapping[str, Any]]] = {name: list(p) for name, p in given.items()}
        for name, part in parts.items():
            if not part:
                raise DataError(f"{self.data} ({name}): there are no rows")
        kind, total = kind_of(parts["train"][0], f"{self.data} (train)"), len(parts["train"])
        own = {"dev": self.dev_size or OWN, "test": self.test_size or OWN}
        complete(parts, lambda row: repr(row.get(kind)), own, self.seed, "pairs split")
        if not all(parts.values()):
            raise DataError(f"{self.data}: {total} rows are too few to split")
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        notes = cut(parts, sizes, self.seed, "pairs", "rows")
        notes.append(", ".join(f"{name} {len(parts[name])}" for name in sizes) + " rows")
        return Splits(parts, notes)

    def reading(self) -> dict[str, Any]:
        """How long prompts and completions may be, and what becomes of longer ones."""
        found = {
            "max_prompt": self.max_prompt,
            "max_completion": self.max_completion,
            "truncation": self.truncation,
            "block": self.block,
        }
        return found if self.separator is None else {**found, "separator": self.separator}
