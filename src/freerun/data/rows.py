"""Rows with the usual columns as prompts and completions; lines to predict from as rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from freerun.data.base import DataError

Row = Mapping[str, Any]
Message = dict[str, Any]
Side = str | list[Message] | list[int] | None
"""Text, a conversation or tokens; None for nothing."""

KINDS: dict[str, tuple[str, ...]] = {
    "input_ids": ("input_ids", "labels"),
    "prompt": ("prompt", "completion"),
    "messages": ("messages",),
    "source": ("source", "target"),
    "text": ("text",),
}
"""The columns of each kind of rows, under the first of them."""

FACTORS = ("tokens", "tags")
"""The columns of rows that are tagged words."""

FEATURES = ("features", "target")
"""The columns of rows whose sources are real-valued."""

IGNORED = -100
"""What labels have where nothing is to be learnt."""


@dataclass(frozen=True)
class Pair:
    """A prompt and its completion.

    Args:
        where: the row or line that it was read from, for messages.
        prompt: what is read; None where nothing is.
        completion: what is to be written after it; None where that is to be predicted.
        template: what the chat template is given beside a conversation, such as tools.
        blocks: the maximum number of pieces that running text is cut into; None for any number.
    """

    where: str
    prompt: Side
    completion: Side = None
    template: Row = field(default_factory=dict)
    blocks: int | None = None


def kind_of(row: Row, name: str, *, learnt: bool = True) -> str:
    """Return the kind of rows that this is one of: the first of `KINDS` whose columns it has.

    Args:
        row: the row.
        name: where it comes from, for the message.
        learnt: whether what is to be written must be there.

    Raises:
        DataError: if it is none.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{name}: it is a {type(row).__name__}; a row is a mapping of columns")
    kinds = KINDS if learnt else {kind: columns[:1] for kind, columns in KINDS.items()}
    for kind, columns in kinds.items():
        if set(columns) <= set(row):
            return kind
    known = "; ".join(map(" and ".join, kinds.values()))
    there = ", ".join(map(str, row)) or "none"
    raise DataError(f"{name}: the columns are {there}; known are {known}")


def places_of(rows: Sequence[Row], name: str) -> list[str]:
    """Return what to call rows in messages: what their column `where` says, or their numbers."""
    return [str(row.get("where") or f"{name}, row {i}") for i, row in enumerate(rows)]


def pairs_of(
    rows: Iterable[Row],
    places: Iterable[str],
    kind: str,
    *,
    separator: str,
    learnt: bool = True,
    blank: bool = False,
) -> list[Pair]:
    """Return rows of one kind, except `input_ids`, as prompts and completions.

    Args:
        rows: the rows.
        places: what to call each, for messages.
        kind: one of `KINDS`.
        separator: what stands behind a source.
        learnt: whether there are completions; else what is there is left out.
        blank: whether a text may have no characters but white space.

    Raises:
        DataError: naming the row and the column, where it is missing or no text.
    """
    read = {"prompt": _prompted, "messages": _conversed, "source": _sourced, "text": _running}[kind]
    return [
        read(row, place, separator, learnt, blank) for row, place in zip(rows, places, strict=True)
    ]


def _prompted(row: Row, where: str, separator: str, learnt: bool, blank: bool) -> Pair:
    prompt = _side(row, "prompt", where, blank)
    if not learnt:
        return Pair(where, prompt, None, _template(row))
    completion = _side(row, "completion", where, blank)
    if isinstance(prompt, str) != isinstance(completion, str):
        raise DataError(f"{where}: prompt and completion must both be text, or both be messages")
    return Pair(where, prompt, completion, _template(row))


def _conversed(row: Row, where: str, separator: str, learnt: bool, blank: bool) -> Pair:
    messages = _messages(row.get("messages"), "messages", where)
    last = messages[-1]["role"]
    if not learnt:
        asked = messages[:-1] if last == "assistant" and len(messages) > 1 else messages
        return Pair(where, asked, None, _template(row))
    if last != "assistant":
        raise DataError(
            f"{where}: the last message is by {last!r}; it must be the assistant's, which is learnt"
        )
    if len(messages) == 1:
        raise DataError(f"{where}: nothing stands before the assistant's message")
    return Pair(where, messages[:-1], messages[-1:], _template(row))


def _sourced(row: Row, where: str, separator: str, learnt: bool, blank: bool) -> Pair:
    target = _text(row, "target", where, blank) if learnt else None
    return Pair(where, _text(row, "source", where, blank) + separator, target)


def _running(row: Row, where: str, separator: str, learnt: bool, blank: bool) -> Pair:
    text = _text(row, "text", where, blank)
    blocks = row.get("blocks")
    if blocks is not None and (type(blocks) is not int or blocks < 1):
        raise DataError(f"{where}: blocks is {blocks!r:.20}; it must be a number of at least 1")
    return Pair(where, None, text, blocks=blocks) if learnt else Pair(where, text)


def _text(row: Row, column: str, where: str, blank: bool) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        raise DataError(f"{where}: the {column} is {text!r:.40}; it must be text")
    if not (text if blank else text.strip()):
        raise DataError(f"{where}: the {column} is empty")
    return text


def _side(row: Row, column: str, where: str, blank: bool) -> str | list[Message]:
    value = row.get(column)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _messages(value, column, where)
    if not isinstance(value, str):
        raise DataError(f"{where}: the {column} is {value!r:.40}; it must be text or messages")
    return _text(row, column, where, blank)


def _messages(value: Any, column: str, where: str) -> list[Message]:
    """Messages without the fields that are None, which Arrow adds where others have them."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise DataError(f"{where}: the {column} is {value!r:.40}; it must be a list of messages")
    for i, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise DataError(f"{where}: message {i} of {column} has no role; it is {message!r:.40}")
    return [{name: part for name, part in message.items() if part is not None} for message in value]


def _template(row: Row) -> dict[str, Any]:
    """Return what a chat template is given beside messages, by the columns that it is in."""
    settings = dict(row.get("chat_template_kwargs") or {})
    return settings | ({"tools": row["tools"]} if row.get("tools") else {})


def labelled(row: Row, where: str, *, pad: int, size: int, causal: bool) -> Pair:
    """Split a row of `input_ids` and `labels` into its prompt and its completion.

    Of a causal model the labels stand below the tokens, -100 on the prompt: what is learnt is the
    end of the row, one piece; the first token of a row, which nothing precedes, is always prompt.
    Of an encoder-decoder `input_ids` are the source and `labels` the target. Tokens where an
    `attention_mask` is 0 are left out, as is padding at the end whose labels are -100.

    Args:
        row: the row; without labels, all of it is the prompt.
        where: what to call it, for messages.
        pad: the padding token.
        size: tokens lie in 0 … size-1.
        causal: whether it is for a causal model.

    Raises:
        DataError: if tokens or labels are none, do not fit each other, nothing is to be learnt,
            or what is to be learnt is in several pieces.
    """
    tokens = _numbers(row, "input_ids", where, size)
    mask = list(row.get("attention_mask") or [1] * len(tokens))
    if len(mask) != len(tokens):
        raise DataError(f"{where}: attention_mask and input_ids differ in length")
    kept = [i for i, there in enumerate(mask) if there]
    if row.get("labels") is None:
        return Pair(where, [tokens[i] for i in kept])
    labels = _numbers(row, "labels", where, size)
    if not causal:
        while labels and labels[-1] == IGNORED:
            labels.pop()
        if IGNORED in labels:
            raise DataError(f"{where}: labels are -100 before the end of the target")
        return _pair(where, [tokens[i] for i in kept], labels)
    if len(labels) != len(tokens):
        raise DataError(f"{where}: {len(labels)} labels for {len(tokens)} input_ids")
    tokens, labels = [tokens[i] for i in kept], [labels[i] for i in kept]
    while tokens and labels[-1] == IGNORED and tokens[-1] == pad:
        tokens.pop(), labels.pop()
    begin = next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))
    for i in range(begin, len(labels)):
        if labels[i] == IGNORED:
            raise DataError(
                f"{where}: tokens to learn end before token {i}, where the label is -100; what is "
                "learnt must be the end of a row, in one piece: make a row of each piece, with all "
                "that stands before it as its prompt"
            )
        if labels[i] != tokens[i]:
            raise DataError(
                f"{where}: token {i} is {tokens[i]} in input_ids and {labels[i]} in labels, which "
                "must be equal or -100; labels are not shifted"
            )
    begin = max(begin, 1)
    return _pair(where, tokens[:begin], tokens[begin:])


def _pair(where: str, prompt: list[int], completion: list[int]) -> Pair:
    if not completion:
        raise DataError(f"{where}: there are no tokens to learn; every label is -100")
    return Pair(where, prompt, completion)


def _numbers(row: Row, column: str, where: str, size: int) -> list[int]:
    values: Any = row.get(column)
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise DataError(f"{where}: {column} is {values!r:.40}; it must be a list of tokens")
    for value in values:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not (0 <= value < size or (column == "labels" and value == IGNORED)):
            raise DataError(f"{where}: {column} has {value!r:.20}; tokens lie in 0 … {size - 1}")
    return list(values)


def read_lines(lines: Sequence[str], name: str, column: str) -> tuple[list[Row], str]:
    """Parse lines to predict from as rows; the first line tells their kind, which is returned, too.

    Args:
        lines: a text each, or a JSON object each with the columns of `KINDS`.
        name: the file that they are from.
        column: what a line is that is no such object: the first column of one of `KINDS`.

    Raises:
        DataError: naming the line that is wrong.
    """
    if not lines:
        raise DataError(f"{name}: nothing to read")
    places = [f"{name}, line {number}" for number in range(1, len(lines) + 1)]
    for line, where in zip(lines, places, strict=True):
        if not line.strip():
            raise DataError(f"{where}: there is no prompt")
    if _object(lines[0]) is None:
        rows, kind = [_row(line, column) for line in lines], column
    else:
        rows = [_parsed(line, where) for line, where in zip(lines, places, strict=True)]
        kind = kind_of(rows[0], places[0], learnt=False)
    return [
        {**row, "where": where, "lines": [line]}
        for row, where, line in zip(rows, places, lines, strict=True)
    ], kind


def answered(source: Sequence[str], text: str) -> str | None:
    """Return the JSON object of a line with the completion in its column; None where it is none."""
    row = _object(source[0]) if source else None
    if row is None:
        return None
    kind = kind_of(row, "the line", learnt=False)
    message = [{"role": "assistant", "content": text}]
    if kind == "messages":
        asked = row["messages"]
        asked = asked[:-1] if asked[-1]["role"] == "assistant" and len(asked) > 1 else asked
        filled: dict[str, Any] = {"messages": [*asked, *message]}
    elif kind == "text":
        filled = {"text": row["text"], "completion": text}
    elif kind == "source":
        filled = {"target": text}
    else:
        spoken = kind == "prompt" and not isinstance(row["prompt"], str)
        filled = {"completion": message if spoken else text}
    return json.dumps({**row, **filled}, ensure_ascii=False)


def _row(line: str, column: str) -> Row:
    if column == "messages":
        return {"messages": [{"role": "user", "content": line}]}
    return {column: line}


def _object(line: str) -> Row | None:
    """Return the JSON object in a line, if it is one."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _parsed(line: str, where: str) -> Row:
    row = _object(line)
    if row is None:
        raise DataError(f"{where}: it is no JSON object, as the first line is")
    return row
