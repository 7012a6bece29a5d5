"""The base class of tasks, and how their rows become examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, cast

from transformers import PreTrainedTokenizerBase

from freerun.data.base import Data, Examples, Sources, Splits
from freerun.data.codec import Codec, WritingCodec
from freerun.data.examples import TextExamples
from freerun.data.factor_codec import FactorCodec
from freerun.data.feature_codec import FeatureCodec
from freerun.data.files import read_rows
from freerun.data.rows import FACTOR_COLUMNS, FEATURE_COLUMNS, Row, find_kind
from freerun.data.store import Augmentation, Ragged, StoredExamples, TokenSequences
from freerun.data.text_codec import UNBOUNDED, TextCodec
from freerun.data.tokens import Tokens, is_closed, special_ids
from freerun.errors import DataError
from freerun.metrics import Metric, find_metrics
from freerun.settings import SETTING_NAME
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True)
class Task(ABC):
    """A task: where rows come from, and what is reported of outputs.

    A subclass is a frozen dataclass whose fields are its settings. It needs `metrics` and `rows`;
    all else has defaults.

    Args:
        extra_metrics: what else to report of outputs, such as chrf, bleu:tokenize=zh,
            mauve:model=DIR, or your own as file.py:function or package.module:function.

    Attributes:
        name: what it is called; by default the name of the class in lower case.
        summary: one line on what is read and written; by default the first line of the docstring.
        metrics: what is reported of outputs: names in `freerun.metrics.METRICS`, with settings
            after a colon, or addresses of functions. Checkpoints are chosen by the first.
        cost: the name of what an output costs in training by a method that looks at costs, by
            default.
        recipe: the default settings of model and training.
        target_tokens: how targets are cut into tokens, for a model that brings no tokenizer (see
            `Tokens`).
        source_tokens: how sources are; None for the tokens of targets, which they then share.
        fixed_length: whether every output is as long as its source, and has no eos.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    cost: ClassVar[str] = "edit_distance"
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {"model": {}, "training": {}}
    fixed_length: ClassVar[bool] = False

    extra_metrics: tuple[str, ...] = field(
        default=(), kw_only=True, metadata={SETTING_NAME: "metrics"}
    )

    def __init_subclass__(cls, **settings: Any) -> None:
        """Name a task by its class, and summarize it by its docstring, unless it says otherwise."""
        super().__init_subclass__(**settings)
        if "name" not in vars(cls):
            cls.name = cls.__name__.lower()
        if "summary" not in vars(cls):
            cls.summary = (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")

    @property
    def target_tokens(self) -> str | Tokens:
        """How targets are cut into tokens."""
        return "characters"

    @property
    def source_tokens(self) -> str | Tokens | None:
        """How sources are cut into tokens; None for the tokens of targets."""
        return "characters"

    @property
    def codec_options(self) -> Mapping[str, Any]:
        """Settings of the codec that its rows are read with, such as `max_prompt`."""
        return {}

    @abstractmethod
    def rows(self) -> Splits[Row]:
        """Read, check and split the data: return the rows of train, dev and test.

        They have the columns that a codec reads (see `TextCodec.encode`, `FeatureCodec.encode`,
        `FactorCodec.encode`).

        Raises:
            DataError: naming the file, the line and what would be right.
        """

    def load(self) -> Data:
        """Read the data in tokens that are learned from them (see `load_data`).

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        return load_data(self)

    def get_metrics(self) -> dict[str, Metric]:
        """Return the metrics to report, by name; checkpoints are chosen by the first.

        Raises:
            SettingError: if there is no such metric.
            MissingExtraError: if a library that one needs is not installed.
        """
        return find_metrics([*self.metrics, *self.extra_metrics])

    def learn_codec(self, rows: Splits[Row], **options: Any) -> Codec:
        """Learn what a model reads and writes, if it brings no tokenizer.

        By default the columns of the rows say which kind of codec it is. A task of other rows has a
        codec of its own.

        Args:
            rows: the rows of the task.
            options: settings of the codec.

        Raises:
            DataError: if no codec reads such rows.
            ValueError: if a setting is out of range.
        """
        train, first = rows["train"], set(rows["train"][0])
        if set(FACTOR_COLUMNS) <= first:
            return FactorCodec.learn(train, **options)
        spec = {"target_tokens": self.target_tokens, "fixed_length": self.fixed_length, **options}
        if set(FEATURE_COLUMNS) <= first:
            return FeatureCodec.learn(train, rows["dev"], **spec)
        return TextCodec.learn(train, rows["dev"], source_tokens=self.source_tokens, **spec)

    def augment(self, codec: Codec, split: str, examples: StoredExamples) -> Augmentation | None:
        """Return what draws the sources of a split anew in every epoch; None if nothing does.

        What is drawn is named by seed, epoch and example (see `freerun.randomness`), so that an
        example meets the same draws in whatever batch it comes.

        Args:
            codec: what the model reads and writes.
            split: train, dev or test.
            examples: the examples of the rows of this split.
        """
        return None

    def read_examples(self, path: str) -> Sequence[Row]:
        """Read the rows of a new file in the task's format, with targets, to evaluate on.

        By default one of rows with the columns that `rows` has: .jsonl, .csv, .parquet and others.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        return list(read_rows(path))

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read sources without targets from the lines of a file called `name`, to predict from.

        Args:
            codec: what the model reads and writes, whose way of reading lines is the default.
            lines: the lines.
            name: the file, for messages.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        return codec.read(lines, name)

    def mistakes(self, vocabulary: Vocabulary) -> Mapping[int, Sequence[int]]:
        """For each token, others that are plausibly written in its place by mistake.

        Tokens that are not named are never mistaken.

        Args:
            vocabulary: the tokens that are written.

        Raises:
            ValueError: if the task or the vocabulary has no such tokens.
        """
        raise ValueError(
            f"the task {self.name} names no plausible mistakes; use noise_tokens=random"
        )

    def check_sizes(self, *names: str) -> None:
        """Check that settings are at least 1, or None.

        Raises:
            ValueError: naming the setting that is not.
        """
        for name in names:
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")


def encode_file(task: Task, codec: Codec, path: str) -> Examples:
    """Read a new file of the format of a task as examples to evaluate on.

    Args:
        task: the task.
        codec: what the model reads and writes.
        path: the file.

    Raises:
        DataError: naming the file, the line and what would be right.
    """
    return _lift_limit(codec).encode(task.read_examples(path), path)


_PURPOSES = {"train": "train on", "dev": "choose checkpoints by", "test": "report on"}


def load_data(
    task: Task,
    codec: Codec | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    start: int | None = None,
    **options: Any,
) -> Data:
    """Load the data of a task as examples: its rows, in the tokens of a codec.

    By default the codec is learned from the rows to train on. Outputs may be half as long again as
    the longest of these.

    Args:
        task: the task.
        codec: what the model reads and writes, if that is known: of a model that was trained
            before. Its outputs may become longer.
        tokenizer: in place of a codec, the tokenizer of a pretrained model.
        start: the token that the decoder of a pretrained encoder-decoder starts with; None for
            causal models.
        options: settings of `TextCodec`, such as `max_prompt`, in place of the task's.

    Raises:
        DataError: if the data cannot be used, or the codec or tokenizer does not read such data.
        ValueError: if a setting is out of range.
    """
    rows = task.rows()
    if not isinstance(rows, Splits):
        raise DataError(
            f"the task {task.name}: rows returned a {type(rows).__name__}; it must return "
            'freerun.data.Splits, as in Splits({"train": …, "dev": …, "test": …})'
        )
    for name in ("train", "dev", "test"):
        if not rows.get(name):
            raise DataError(f"the task {task.name} has no rows to {_PURPOSES[name]}, {name!r}")
        for row in rows[name]:
            if not isinstance(row, Mapping):
                raise DataError(
                    f"the task {task.name} ({name}): a row is {row!r:.60}; it must be a mapping "
                    'such as {"source": …, "target": …}'
                )
    known = codec
    if codec is None:
        codec = _choose_codec(task, rows, tokenizer, start, {**task.codec_options, **options})
    elif isinstance(codec, TextCodec):
        _check_text(task, rows)
    parts = {
        name: _lift_limit(codec).encode(part, f"{task.name} ({name})")
        for name, part in rows.items()
    }
    codec = _set_limit(codec, parts["train"], known)
    notes = [*rows.notes]
    for name, part in parts.items():
        if isinstance(part, TextExamples):
            notes += [f"{name}: {note}" for note in part.notes]
    if isinstance(codec, TextCodec):
        notes += _describe_texts(codec, parts, learned=known is None and tokenizer is None)
    for name, part in parts.items():
        draw = task.augment(codec, name, part) if isinstance(part, StoredExamples) else None
        if draw is not None and isinstance(part, StoredExamples):
            parts[name] = replace(part, augmentation=draw)
    return Data(parts["train"], parts["dev"], parts["test"], codec, notes)


def _choose_codec(
    task: Task,
    rows: Splits[Row],
    tokenizer: PreTrainedTokenizerBase | None,
    start: int | None,
    options: dict[str, Any],
) -> Codec:
    """Choose the codec of a model that is trained on these rows."""
    if tokenizer is not None:
        _check_text(task, rows)
        _check_tokens(task)
        kind = find_kind(rows["train"][0], f"{task.name} (train)")
        if "separator" in options and (kind != "source" or start is not None):
            raise DataError(
                "separator stands between the columns source and target for causal models; it has "
                "no effect here"
            )
        return TextCodec(
            tokenizer,
            limit=UNBOUNDED,
            bos=start,
            continues=start is None,
            column="prompt" if kind == "input_ids" else kind,
            **options,
        )
    return task.learn_codec(rows, **options)


def _check_text(task: Task, rows: Splits[Row]) -> None:
    """Check that a tokenizer can read the rows of a task."""
    first = rows["train"][0]
    if set(FACTOR_COLUMNS) <= set(first) or set(FEATURE_COLUMNS) <= set(first):
        raise DataError(
            f"the task {task.name} is not text, which is all that a tokenizer reads and writes; "
            "take a recurrent model"
        )


def _check_tokens(task: Task) -> None:
    """Check that the tokens of a task are not set, if the model brings a tokenizer."""
    for each in fields(task):
        own = each.name in ("source_tokens", "target_tokens")
        if own and getattr(task, each.name) != each.default:
            raise DataError(
                f"{task.name}: {each.name} has no effect if the model has a tokenizer; leave it out"
            )


def _lift_limit(codec: Codec) -> Codec:
    """Return a codec that reads targets of any length."""
    if isinstance(codec, WritingCodec) and codec.limit is not None:
        return replace(codec, limit=UNBOUNDED)
    return codec


def _set_limit(codec: Codec, train: Examples, known: Codec | None) -> Codec:
    """Return a codec whose limit of outputs is long enough for the training targets."""
    if not isinstance(codec, WritingCodec) or codec.limit is None:
        return codec
    longest = int(cast(StoredExamples, train).targets.lengths.max())
    limit = longest + (longest - 1) // 2
    if isinstance(codec, TextCodec):
        limit = codec.block or max(limit, codec.max_completion or 0)
    if known is not None:
        limit = max(limit, known.limit or 0)
    return replace(codec, limit=limit)


def _describe_texts(codec: TextCodec, parts: Mapping[str, Examples], *, learned: bool) -> list[str]:
    """Return notes on how texts are read: sizes, unknown tokens, texts that change."""
    texts = {name: part for name, part in parts.items() if isinstance(part, TextExamples)}
    test = texts["test"]
    notes = []
    if learned:
        if codec.source is not None:
            notes += _note_tokens("source", codec.source, test.sources)
        notes += _note_tokens("target" if codec.source else "text", codec.tokenizer, test.targets)
    else:
        longest = [max(sizes) for sizes in zip(*(p.longest for p in texts.values()), strict=True)]
        notes.append(
            f"the longest prompt has {longest[0]} tokens, the longest completion {longest[1]}"
        )
    if codec.block is not None:
        notes.append(f"train has {len(texts['train'])} pieces")
    return [*notes, *_note_altered_texts(codec, test)]


def _note_tokens(side: str, tokenizer: PreTrainedTokenizerBase, test: Ragged) -> list[str]:
    """Return a note on the learned tokens of a side; none if they are closed."""
    if is_closed(tokenizer):
        return []
    count = len(tokenizer) - len(special_ids(tokenizer)) - (tokenizer.unk_token is not None)
    if tokenizer.unk_token_id is None:
        return [f"{side}: {count} tokens"]
    found = [token for row in TokenSequences(test) for token in row]
    share = found.count(tokenizer.unk_token_id) / max(len(found), 1)
    return [f"{side}: {count} tokens are known; {share:.1%} of those of test are not"]


def _note_altered_texts(codec: TextCodec, examples: TextExamples) -> list[str]:
    """Return a note on texts that the tokenizer does not reproduce, which no output can equal.

    Targets without eos were truncated, for which there already is a note.
    """
    rows = zip(examples.references, examples.targets.lengths.tolist(), examples.texts, strict=True)
    ended = int(codec.target.eos is not None)
    whole = ((tokens, text) for tokens, length, text in rows if len(tokens) + ended == length)
    read = ((codec.decode(tokens), text) for tokens, text in whole)
    wrong = [
        (found, text) for found, text in read if codec.normalize(found) != codec.normalize(text)
    ]
    if not wrong:
        return []
    found, text = (codec.normalize(each) for each in wrong[0])
    return [
        f"{len(wrong)} targets of {len(examples)} of test are not what their tokens are read as, "
        f"and so are never right: {text!r:.60} is read as {found!r:.60}"
    ]
