"""Load the rows of a task as examples, with the codec of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

from freerun.data.base import Data, Examples, Splits
from freerun.data.codec import Codec, WritingCodec
from freerun.data.examples import TextExamples
from freerun.data.rows import FACTOR_COLUMNS, FEATURE_COLUMNS, Row, find_kind
from freerun.data.store import Ragged, StoredExamples, TokenSequences
from freerun.data.text_codec import UNBOUNDED, TextCodec
from freerun.data.tokens import is_closed, special_ids
from freerun.errors import DataError
from freerun.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_file(task: Task, codec: Codec, path: str) -> Examples:
    """Read a new file in the format of a task as examples to evaluate on.

    Args:
        task: the task.
        codec: the codec of the model.
        path: the file.

    Raises:
        DataError: names the file, the line and what is expected.
    """
    return _remove_limit(codec).encode(task.read_examples(path), path)


def load_file(
    task: Task,
    path: str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    start: int | None = None,
    *,
    codec: Codec | None = None,
) -> tuple[Codec, Examples]:
    """Read a file as `encode_file` does, for a pretrained model that has no codec.

    Outputs may be half as long again as the longest target.

    Args:
        task: the task.
        path: the file.
        tokenizer: the tokenizer of the model.
        start: the token that the decoder of an encoder-decoder starts with; None for causal models.
        codec: the codec of the model, in place of a tokenizer, if it reads images or sounds.

    Returns:
        The codec that `load_data` would choose, and the examples.

    Raises:
        DataError: names the file, the line and what is expected.
    """
    rows = [*task.read_examples(path)]
    if not rows:
        raise DataError(f"{path}: there are no rows")
    if codec is None:
        options = dict(task.codec_options)
        codec = _choose_codec(task, Splits({"train": rows}), tokenizer, start, options)
    else:
        codec = _remove_limit(codec)
    examples = codec.encode(rows, path)
    if not len(examples):
        raise DataError(f"{path}: there are no examples; every row is left out")
    return _set_limit(codec, examples, None), examples


def note_unseen(examples: Examples, name: str) -> list[str]:
    """Return a note on targets with symbols that are not in training, which no output equals.

    Args:
        examples: the examples.
        name: the name of their split or file.
    """
    if not isinstance(examples, StoredExamples) or not examples.unseen:
        return []
    return [
        f"{len(examples.unseen)} targets of {len(examples)} of {name} are never right, and their "
        f"unknown symbols do not count in teacher_forced_loss: {examples.unseen[0]}"
    ]


_PURPOSES = {"train": "train on", "dev": "choose checkpoints by", "test": "report on"}


def load_data(
    task: Task,
    codec: Codec | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    start: int | None = None,
    **options: Any,
) -> Data:
    """Load the data of a task as examples: its rows, encoded by a codec.

    By default the codec is learned from the training rows. Outputs may be 1.5 times as long as the
    longest target in training.

    Args:
        task: the task.
        codec: the codec of an existing model; its maximum output length may increase.
        tokenizer: the tokenizer of a pretrained model, instead of a codec.
        start: the token that the decoder of a pretrained encoder-decoder starts with; None for
            causal models.
        options: settings of `TextCodec`, such as `max_prompt`, that replace those of the task.

    Raises:
        DataError: if the data cannot be used, or the codec or tokenizer does not read such data.
        ValueError: if a setting is out of range.
    """
    rows = _read_rows(task)
    known = codec
    if codec is None:
        codec = _choose_codec(task, rows, tokenizer, start, {**task.codec_options, **options})
    elif isinstance(codec, TextCodec):
        _check_text(task, rows)
    unlimited = _remove_limit(codec)
    parts = {name: unlimited.encode(part, f"{task.name} ({name})") for name, part in rows.items()}
    codec = _set_limit(codec, parts["train"], known)
    notes = [*rows.notes]
    for name, part in parts.items():
        if isinstance(part, TextExamples):
            notes += [f"{name}: {note}" for note in part.notes]
        if name == "train" and isinstance(part, StoredExamples) and part.unseen:
            raise DataError(part.unseen[0])
        notes += note_unseen(part, name)
    if isinstance(codec, TextCodec):
        learned = known is None and tokenizer is None
        if learned:
            _check_known(codec, parts["dev"])
        notes += _describe_texts(codec, parts, learned=learned)
    for name, part in parts.items():
        draw = task.augment(codec, name, part) if isinstance(part, StoredExamples) else None
        if draw is not None and isinstance(part, StoredExamples):
            parts[name] = replace(part, augmentation=draw)
    return Data(parts["train"], parts["dev"], parts["test"], codec, notes)


def _read_rows(task: Task) -> Splits[Row]:
    """Return the rows of a task, after checking that no split is empty."""
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
    return rows


def _choose_codec(
    task: Task,
    rows: Splits[Row],
    tokenizer: PreTrainedTokenizerBase | None,
    start: int | None,
    options: dict[str, Any],
) -> Codec:
    """Build the codec of a model that is trained on these rows."""
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
    """Check that a tokenizer can encode the rows of a task."""
    first = rows["train"][0]
    if set(FACTOR_COLUMNS) <= set(first) or set(FEATURE_COLUMNS) <= set(first):
        raise DataError(
            f"the task {task.name} is not text, which a tokenizer needs; use a recurrent model"
        )


def list_own_tokens(task: Task) -> list[str]:
    """Return the names of the settings of tokens that a task does not leave to their defaults."""
    return [
        each.name
        for each in fields(task)
        if each.name in ("source_tokens", "target_tokens")
        and getattr(task, each.name) != each.default
    ]


def _check_tokens(task: Task) -> None:
    """Check that the tokens of a task are not set, if the model has a tokenizer."""
    for name in list_own_tokens(task):
        raise DataError(
            f"{task.name}: {name} has no effect if the model has a tokenizer; leave it out"
        )


def _remove_limit(codec: Codec) -> Codec:
    """Return a codec that encodes targets of any length."""
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
    """Return notes on encoded texts: sizes, unknown tokens, texts that change."""
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
    return [*notes, *note_outliers(texts["train"]), *_note_altered_texts(codec, test)]


def note_outliers(train: TextExamples) -> list[str]:
    """Return a note on the longest row of a side that is far longer than most.

    A batch is as wide as its longest row, and outputs may be half as long again as the longest
    target, so that one such row may take all memory.

    Args:
        train: the examples to train on.
    """
    notes = []
    for side, limit, rows in (
        ("source", "max_prompt", train.sources),
        ("target", "max_completion", train.targets),
    ):
        longest, usual = int(rows.lengths.max()), max(int(rows.lengths.median()), 1)
        if longest > max(_MANY_TIMES * usual, _LONG):
            notes.append(
                f"the longest {side} of train has {longest:,} tokens, {longest // usual:,} times "
                f"the median, and takes as much more memory: --task.{limit} with --task.truncation "
                "drop leaves such rows out"
            )
    return notes


_MANY_TIMES, _LONG = 20, 500
"""What is far longer than most: so many times the median, and more than so many tokens."""


LEAST_KNOWN = 0.2
"""The minimum fraction of the tokens of dev that a learned vocabulary must know."""


def _check_known(codec: TextCodec, dev: Examples) -> None:
    """Check that learned tokens know enough of dev.

    Raises:
        DataError: if they do not. The message says what to set.
    """
    if not isinstance(dev, TextExamples):
        return
    sides = {"source": (codec.source, dev.sources), "target": (codec.tokenizer, dev.targets)}
    for side, (tokenizer, rows) in sides.items():
        if tokenizer is None or tokenizer.unk_token_id is None:
            continue
        known = 1 - _share_unknown(tokenizer, rows)
        if known < LEAST_KNOWN:
            raise DataError(
                f"the {side} tokens that are learned from train know only {known:.1%} of those of "
                f"dev; set {side}_tokens to characters, bpe:1000 or bytes, which can read and "
                "write any word, or to symbols if tokens stand between spaces"
            )


def _share_unknown(tokenizer: PreTrainedTokenizerBase, rows: Ragged) -> float:
    """Return the fraction of unknown tokens, without eos."""
    found = [t for row in TokenSequences(rows) for t in row if t != tokenizer.eos_token_id]
    return found.count(tokenizer.unk_token_id) / max(len(found), 1)


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

    Targets without eos were truncated, for which there is already a note.
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
