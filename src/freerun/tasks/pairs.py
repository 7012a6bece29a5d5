"""Prompts and completions, in the usual columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from freerun.data import DataError, Splits
from freerun.data.folders import read_splits
from freerun.data.rows import Row, find_kind
from freerun.data.splits import add_missing_splits, describe_sizes, subsample
from freerun.data.tokens import Tokens
from freerun.data.truncation import Truncation
from freerun.tasks.base import Task

MAX_HELD_OUT_ROWS = 1_000
"""The default maximum number of rows of a dev or test set that is split off."""
NAMES = {"prompt": "prompts", "source": "sources", "text": "texts"}
SIZES = ("max_prompt", "max_completion", "block", "train_size", "dev_size", "test_size")


@dataclass(frozen=True)
class Pairs(Task):
    """Prompts and their completions, from files or datasets of rows.

    Rows have the columns `prompt` and `completion` (text, or messages), `messages`, `source` and
    `target`, `text`, or `input_ids` and `labels`: see `TextCodec.encode`. If dev or test is
    missing, it is taken out of train at random: rows with equal prompts stay in one split.

    Args:
        data: a file (.jsonl, .json, .csv, .tsv, .parquet), or a `datasets` id or folder.
        subset: the subset of a dataset that has several.
        source_tokens: the tokens of sources for a model without a tokenizer, such as characters,
            words:N, bpe:N or bytes; by default those of targets.
        target_tokens: the tokens of targets, likewise.
        max_prompt: the maximum number of tokens of a prompt; by default any number.
        max_completion: the maximum number of tokens of a completion, eos included; by default any
            number.
        truncation: how to handle longer rows: report an error (error), cut off the start or the end
            of the prompt and the end of the completion (start, end), or leave them out (drop).
        separator: the text between source and target for causal models; by default a line break.
        block: the maximum number of tokens of a piece of running text; by default each text is one
            piece.
        train_size: the maximum number of rows to train on, drawn by seed; by default all.
        dev_size: the maximum number of rows in dev; by default all if the data have a dev split,
            else a tenth of all rows, at most 1000.
        test_size: the maximum number of rows in test, likewise.
        seed: the seed of the split and of the choice of rows.
    """

    name: ClassVar[str] = "pairs"
    summary: ClassVar[str] = "prompts to completions (files and datasets of rows)"
    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "character_error")
    cost: ClassVar[str] = "edit_distance"
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "model": {"bidirectional": True, "attention": "additive"},
        "training": {},
    }

    data: str
    subset: str | None = None
    source_tokens: str | None = None
    target_tokens: str = "bpe:1000"
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
        """Check the settings.

        Raises:
            ValueError: if a setting is out of range or has no effect. The message names it.
        """
        self.check_sizes(*SIZES)
        for tokens in (self.source_tokens, self.target_tokens):
            if tokens is not None:
                Tokens.parse(tokens)
        if self.truncation != "error" and self.max_prompt is None and self.max_completion is None:
            raise ValueError(
                f"truncation is {self.truncation}, which has no effect without max_prompt or "
                "max_completion"
            )

    @property
    def codec_options(self) -> dict[str, Any]:
        """The maximum lengths of prompts and completions, and the treatment of longer ones."""
        found = {
            "max_prompt": self.max_prompt,
            "max_completion": self.max_completion,
            "truncation": self.truncation,
            "block": self.block,
        }
        return found if self.separator is None else {**found, "separator": self.separator}

    def rows(self) -> Splits[Row]:
        """Read and split the rows.

        Raises:
            DataError: names the file, and what is expected.
            MissingExtraError: if `datasets` is not installed.
        """
        tables = read_splits(self.data, self.subset)
        for table in tables.values():
            if not table.rows:
                raise DataError(f"{table.name}: there are no rows")
        parts: dict[str, list[Row]] = {name: [*table.rows] for name, table in tables.items()}
        kind = find_kind(parts["train"][0], tables["train"].name)
        del tables
        own = {
            "dev": self.dev_size or MAX_HELD_OUT_ROWS,
            "test": self.test_size or MAX_HELD_OUT_ROWS,
        }
        where, what = self.data, ("rows", NAMES.get(kind, kind))
        stream = (self.seed, "pairs split")
        add_missing_splits(parts, partial(_key, kind), own, *stream, where=where, what=what)
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        notes = subsample(parts, sizes, self.seed, "pairs", "rows")
        return Splits(parts, [*notes, describe_sizes(parts, "rows")])


def _key(column: str, row: Row) -> str:
    """Return the key that rows with equal prompts share."""
    value = row.get(column)
    return value if isinstance(value, str) else repr(value)
