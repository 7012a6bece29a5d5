"""The data of tasks in the tokens of a tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from freerun.tasks.base import Codec, Data, DataError, Splits, Task
from freerun.tasks.tokenized.codec import TextCodec
from freerun.tasks.tokenized.columns import Row, kind_of
from freerun.tasks.tokenized.examples import TextExamples

ENDLESS = 2**31
"""More tokens than any output has."""


def tokenized(
    task: Task, tokenizer: PreTrainedTokenizerBase, *, start: int | None = None, **settings: Any
) -> Data:
    """The data of a task of text in the tokens of a tokenizer.

    Outputs may be half as long again as the longest target.

    Args:
        task: a task of text.
        tokenizer: the tokenizer.
        start: the token that the decoder of an encoder-decoder starts with; None for causal models.
        settings: settings of `TextCodec`, such as `max_prompt`, in place of the task's.

    Raises:
        DataError: where the task is not text or its data cannot be used, or as `TextCodec` does.
    """
    rows = task.rows()
    settings = {**task.reading(), **settings}
    kind = kind_of(rows["train"][0], f"{task.name} (train)")
    if "separator" in settings and (kind != "source" or start is not None):
        raise DataError(
            "separator stands between the columns source and target for causal models; it has no "
            "effect here"
        )
    column = "prompt" if kind == "input_ids" else kind
    most = settings.get("max_completion") or ENDLESS
    codec = TextCodec(tokenizer, start=start, column=column, limit=most, **settings)
    return _data(task, rows, codec, 0)


def data_of(task: Task, codec: Codec) -> Data:
    """The data of a task as a model reads and writes them that was trained before.

    Args:
        task: the task.
        codec: what the model reads and writes. Where it is no `TextCodec`, the task's own data are
            given, whose codec may differ.

    Raises:
        DataError: where the data cannot be used.
    """
    if not isinstance(codec, TextCodec):
        return task.load()
    endless = codec if codec.max_completion else replace(codec, limit=ENDLESS)
    return _data(task, task.rows(), endless, codec.limit)


def _data(task: Task, rows: Splits[Row], codec: TextCodec, least: int) -> Data:
    """The splits as examples, and a codec whose outputs may be long enough."""
    parts = {
        name: TextExamples.from_rows(part, codec, f"{task.name} ({name})")
        for name, part in rows.items()
    }
    longest = [max(sizes) for sizes in zip(*(p.longest for p in parts.values()), strict=True)]
    limit = max(least, codec.max_completion or 0, longest[1] + longest[1] // 2)
    codec = replace(codec, limit=limit)
    cut = [f"{name}: {note}" for name, part in parts.items() for note in part.notes]
    sizes = f"the longest prompt has {longest[0]} tokens, the longest completion {longest[1]}"
    notes = [*rows.notes, *cut, sizes, *_altered(codec, parts["test"])]
    return Data(parts["train"], parts["dev"], parts["test"], codec, notes)


def _altered(codec: TextCodec, examples: TextExamples) -> list[str]:
    """A note on texts that the tokenizer does not give back, so that no output can equal them.

    Targets without eos were cut off, of which there is a note already.
    """
    rows = zip(examples.references, examples.targets.lengths.tolist(), examples.texts, strict=True)
    whole = ((tokens, text) for tokens, length, text in rows if len(tokens) < length)
    read = ((codec.decode(tokens), text.strip()) for tokens, text in whole)
    wrong = [(found, text) for found, text in read if found != text]
    if not wrong:
        return []
    found, text = wrong[0]
    return [
        f"{len(wrong)} targets of {len(examples)} of test are not what their tokens are read as, "
        f"and so are never right: {text!r:.60} is read as {found!r:.60}"
    ]
