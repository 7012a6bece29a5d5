"""Prompts and completions, in the usual columns."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress, count, takewhile
from typing import Any, ClassVar, Literal

from freerun.data import Codec, DataError, Sources, Splits
from freerun.data.columns import ColumnChoice, read_line_pairs
from freerun.data.folders import read_splits
from freerun.data.references import (
    collect_references,
    describe_references,
    merge_references,
    separate_references,
)
from freerun.data.rows import IGNORED, ROW_COLUMNS, Row, find_kind
from freerun.data.splits import add_missing_splits, describe_sizes, note_shared, subsample
from freerun.data.symbols import are_symbols
from freerun.data.tables import Table
from freerun.data.tokens import Tokens
from freerun.data.truncation import Truncation
from freerun.metrics import Metric
from freerun.tasks.base import Recipe, Task

NAMES = {"prompt": "prompts", "source": "sources", "text": "texts"}
AUTO, DEFAULT_TOKENS = "auto", "bpe:1000"
"""The tokens of targets that are chosen by the rows, and those if they are not symbols."""
SYMBOL_METRICS = ("sequence_error", "token_error")
"""The metrics of targets that are symbols between spaces, where characters mean little."""


@dataclass(frozen=True)
class Pairs(Task):
    """Prompts and their completions, from files or datasets of rows.

    Rows have the columns `prompt` and `completion` (text, or messages), `messages`, `source` and
    `target`, `text`, or `input_ids` and `labels`: see `TextCodec.encode`. If dev or test is
    missing, it is taken out of train at random: rows with equal prompts stay in one split.

    Args:
        data: a file (.jsonl, .json, .csv, .tsv, .txt, .parquet), or a `datasets` id or folder.
        targets: the file of the targets, one per line; then the lines of `data` are the sources.
        dev: a file to choose settings and checkpoints by, if `data` is a file to train on.
        dev_targets: the targets of `dev`, if it has one source per line.
        test: a file to report on, likewise.
        test_targets: the targets of `test`, likewise.
        subset: the subset of a dataset that has several.
        source_columns: the columns of the source, by names or by numbers from 0; the texts of
            several are joined. By default those that rows usually have, and the first of a file
            of two columns without names.
        target_column: the column of the target, likewise; by default the second.
        reference_columns: other columns of right targets, with which outputs are also compared.
        repeated: what rows of dev and test with equal sources are: examples of their own
            (examples), or one whose targets are all right (references).
        column_separator: the text between the columns of a source.
        header: whether the first line of a text file has the names of columns; by default it does
            if it has names of known columns, or columns are chosen by name.
        source_tokens: the tokens of sources for a model without a tokenizer, such as characters,
            words:N, bpe:N or bytes; by default those of targets.
        target_tokens: the tokens of targets, likewise; auto is bpe:1000, unless they are symbols
            between spaces such as phonemes (see `are_symbols`): then symbols, and characters for
            sources.
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
    data_settings: ClassVar[tuple[str, ...]] = (
        *Task.data_settings,
        "targets",
        "dev_targets",
        "test_targets",
    )
    recipe: ClassVar[Recipe] = {
        "model": {"bidirectional": True, "attention": "additive"},
        "training": {},
    }

    data: str
    targets: str | None = None
    dev: str | None = None
    dev_targets: str | None = None
    test: str | None = None
    test_targets: str | None = None
    subset: str | None = None
    source_columns: tuple[int | str, ...] = ()
    target_column: int | str | None = None
    reference_columns: tuple[int | str, ...] = ()
    repeated: Literal["examples", "references"] = "examples"
    column_separator: str = " "
    header: bool | None = None
    source_tokens: str | None = None
    target_tokens: str = AUTO
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
        self.check_sizes(
            "max_prompt", "max_completion", "block", "train_size", "dev_size", "test_size"
        )
        self.columns  # noqa: B018  (a wrong choice is refused here)
        self._check_files()
        for tokens in (self.source_tokens, self.target_tokens):
            if tokens not in (None, AUTO):
                Tokens.parse(tokens)
        if self.truncation != "error" and self.max_prompt is None and self.max_completion is None:
            raise ValueError(
                f"truncation is {self.truncation}, which has no effect without max_prompt or "
                "max_completion"
            )

    def _check_files(self) -> None:
        """Check the combination of files."""
        for name in ("dev", "test"):
            if getattr(self, f"{name}_targets") is not None and getattr(self, name) is None:
                raise ValueError(f"{name}_targets is given without {name}, the file of the sources")
        lines = [name for name in ("targets", "dev_targets", "test_targets") if getattr(self, name)]
        if lines and self.targets is None:
            raise ValueError(f"{lines[0]} is given without targets, those of the training sources")
        for name in ("dev", "test"):
            if self.targets and getattr(self, name) and not getattr(self, f"{name}_targets"):
                raise ValueError(
                    f"{name} has one source per line, as data has: give {name}_targets"
                )
        chosen = self.source_columns or self.reference_columns or self.header is not None
        if self.targets and chosen:
            raise ValueError(
                "files of sources and targets, line by line, have no columns to choose"
            )

    @property
    def columns(self) -> ColumnChoice:
        """The columns of source and target in files of rows."""
        return ColumnChoice(
            self.source_columns,
            self.target_column,
            self.column_separator,
            self.header,
            self.reference_columns,
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
        tables = self._read_tables()
        for table in tables.values():
            if not table.rows:
                raise DataError(f"{table.name}: there are no rows")
        notes = self.columns.describe(tables["train"])
        for table in tables.values():  # of those that are as train, its note is enough
            if table.columns != tables["train"].columns:
                notes += [f"{table.name}: {note}" for note in self.columns.describe(table)]
        parts = {name: self._select(table) for name, table in tables.items()}
        kind = find_kind(parts["train"][0], tables["train"].name)
        for name, table in tables.items():
            self._check_kind(parts[name][0], table, kind, tables["train"])
        given = [name for name in ("dev", "test") if name in parts]
        del tables
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        where, what = self.data, ("rows", NAMES.get(kind, kind))
        stream = (self.seed, "pairs split")
        add_missing_splits(parts, partial(_key, kind), sizes, *stream, where=where, what=what)
        if given:
            shared = {name: parts[name] for name in ("train", *given)}
            notes += note_shared(shared, partial(_key, kind), NAMES.get(kind, kind))
        parts["train"] = separate_references(parts["train"], kind)
        for name in ("dev", "test"):
            parts[name] = self._merge(parts[name], kind, name)
            notes += describe_references(name, parts[name])
        notes += subsample(parts, sizes, self.seed, "pairs", "rows")
        return Splits(parts, [*notes, describe_sizes(parts, "rows")])

    def complete(self) -> tuple[Pairs, list[str]]:
        """Choose the tokens by the rows to train on, unless they are set.

        Raises:
            DataError: names the file, and what is expected.
        """
        return (self, []) if self.target_tokens != AUTO else self._choose(self.rows()["train"])

    def _choose(self, rows: Sequence[Row]) -> tuple[Pairs, list[str]]:
        """Return the task with tokens for these rows, and a note on it."""
        columns = ROW_COLUMNS[find_kind(rows[0], self.data)]
        sides = [[text for row in rows if isinstance(text := row[c], str)] for c in columns[:2]]
        if len(sides) < 2 or not are_symbols(sides[1]):
            return replace(self, target_tokens=DEFAULT_TOKENS), []
        source = self.source_tokens or ("symbols" if are_symbols(sides[0]) else "characters")
        task = replace(self, source_tokens=source, target_tokens="symbols")
        first = next(text for text in sides[1] if " " in text)
        return task, [
            f"targets are symbols between spaces, such as {first!r:.40}: target_tokens=symbols, "
            f"source_tokens={source}; of pronunciations, sequence_error is the word error rate and "
            "token_error the phoneme error rate"
        ]

    def learn_codec(self, rows: Splits[Row], **options: Any) -> Codec:
        """Learn the codec, for a model without a tokenizer.

        Raises:
            DataError: if the rows are not text.
        """
        if self.target_tokens == AUTO:
            task, notes = self._choose(rows["train"])
            rows.notes += notes
            return task.learn_codec(rows, **options)
        return super().learn_codec(rows, **options)

    def get_metrics(self) -> dict[str, Metric]:
        """Return the metrics to report: error rates if targets are symbols between spaces.

        Raises:
            SettingError: if there is no such metric.
            MissingExtraError: if a library that one needs is not installed.
        """
        symbols = self.target_tokens != AUTO and Tokens.parse(self.target_tokens).kind == "symbols"
        if symbols:
            return self.order_metrics([*SYMBOL_METRICS, *self.extra_metrics])
        return super().get_metrics()

    def read_examples(self, path: str) -> Sequence[Row]:
        """Read the rows of another file with the same columns.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        rows = self._select(self.columns.read(path))
        return self._merge(rows, find_kind(rows[0], path), path) if rows else rows

    def _select(self, table: Table) -> list[Row]:
        """Return rows with the chosen columns, and several references in a column of their own."""
        rows = self.columns.select(table).rows
        kind = find_kind(rows[0], table.name, hint=_advise(rows[0])) if rows else "text"
        return collect_references(rows, kind)

    def _check_kind(self, row: Row, table: Table, kind: str, train: Table) -> None:
        """Check that the rows of a split have the columns of those to train on."""
        own = find_kind(row, table.name)
        if own != kind:
            there, expected = (" and ".join(ROW_COLUMNS[each]) for each in (own, kind))
            raise DataError(
                f"{table.name}: its rows are read as {there}, and those of {train.name} as "
                f"{expected}; give them columns with the same names"
            )

    def _merge(self, rows: list[Row], kind: str, name: str) -> list[Row]:
        """Return one row for each source, if this is wanted."""
        return merge_references(rows, kind, name) if self.repeated == "references" else rows

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read sources to predict from: one per line, with tabs between several columns.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        convert, places = self.columns.convert_line, (f"{name}, line {i}" for i in count(1))
        return codec.read([convert(*pair) for pair in zip(lines, places)], name)  # noqa: B905 (endless)

    def _read_tables(self) -> dict[str, Table]:
        """Read the given splits with all their columns."""
        if self.targets is not None:
            pairs = {"train": (self.data, self.targets), "dev": (self.dev, self.dev_targets)}
            pairs["test"] = (self.test, self.test_targets)
            return {
                name: read_line_pairs(source, target)
                for name, (source, target) in pairs.items()
                if source is not None and target is not None
            }
        tables = read_splits(self.data, self.subset, self.columns.read)
        for name, path in (("dev", self.dev), ("test", self.test)):
            if path is not None and name in tables:
                raise DataError(f"{self.data}: it has a split {name}; leave {name} out")
            if path is not None:
                tables[name] = self.columns.read(path)
        return tables


def _advise(row: Row) -> str:
    """Return how to choose columns that have other names, for the message about unknown ones."""
    *sources, target = map(str, row) if len(row) > 1 else ["NAME", "NAME"]
    flags = shlex.join(["--task.source_columns", *sources, "--task.target_column", target])
    return f"rename them, or choose others: {flags}"


def _key(column: str, row: Row) -> str:
    """Return the key that rows with equal prompts share."""
    value = row.get(column)
    if column == "messages" and isinstance(value, list) and len(value) > 1:
        value = value[:-1]  # without the answer
    if column == "input_ids" and isinstance(value, list):
        labels, mask = row.get("labels"), row.get("attention_mask")
        read = takewhile(lambda label: label == IGNORED, labels if isinstance(labels, list) else ())
        value = value[: len(list(read)) or None]
        value = [*compress(value, mask)] if isinstance(mask, list) else value  # without padding
    return value if isinstance(value, str) else repr(value)
