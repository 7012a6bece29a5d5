"""Rows with the usual columns as prompts and completions, before they are tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from freerun.tasks.base import DataError

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
    """

    where: str
    prompt: Side
    completion: Side = None
    template: Row = field(default_factory=dict)


def kind_of(row: Row, name: str, *, learnt: bool = True) -> str:
    """The kind of rows that this is one of: the first of `KINDS` whose columns it has.

    Args:
        row: the row.
        name: where it comes from, for the message.
        learnt: whether what is to be written must be there.

    Raises:
        DataError: where it is none.
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


def pairs_of(
    rows: Iterable[Row], places: Iterable[str], kind: str, *, separator: str, learnt: bool = True
) -> list[Pair]:
    """Rows of one kind, but for `input_ids`, as prompts and completions.

    Args:
        rows: the rows.
        places: what to call each, for messages.
        kind: one of `KINDS`.
        separator: what stands behind a source.
        learnt: whether there are completions; else what is there is left out.

    Raises:
        DataError: naming the row and the column, where it is missing or no text.
    """
    read = {"prompt": _prompted, "messages": _conversed, "source": _sourced, "text": _running}[kind]
    return [read(row, place, separator, learnt) for row, place in zip(rows, places, strict=True)]


def _prompted(row: Row, where: str, separator: str, learnt: bool) -> Pair:
    prompt = _side(row, "prompt", where)
    if not learnt:
        return Pair(where, prompt, None, _template(row))
    completion = _side(row, "completion", where)
    if isinstance(prompt, str) != isinstance(completion, str):
        raise DataError(f"{where}: prompt and completion must both be text, or both be messages")
    return Pair(where, prompt, completion, _template(row))


def _conversed(row: Row, where: str, separator: str, learnt: bool) -> Pair:
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


def _sourced(row: Row, where: str, separator: str, learnt: bool) -> Pair:
    target = _text(row, "target", where) if learnt else None
    return Pair(where, _text(row, "source", where) + separator, target)


def _running(row: Row, where: str, separator: str, learnt: bool) -> Pair:
    text = _text(row, "text", where)
    return Pair(where, None, text) if learnt else Pair(where, text)


def _text(row: Row, column: str, where: str) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        raise DataError(f"{where}: the {column} is {text!r:.40}; it must be text")
    if not text.strip():
        raise DataError(f"{where}: the {column} is empty")
    return text


def _side(row: Row, column: str, where: str) -> str | list[Message]:
    value = row.get(column)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _messages(value, column, where)
    if not isinstance(value, str):
        raise DataError(f"{where}: the {column} is {value!r:.40}; it must be text or messages")
    return _text(row, column, where)


def _messages(value: Any, column: str, where: str) -> list[Message]:
    """Messages without the fields that are None, which Arrow adds where others have them."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise DataError(f"{where}: the {column} is {value!r:.40}; it must be a list of messages")
    for i, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise DataError(f"{where}: message {i} of {column} has no role; it is {message!r:.40}")
    return [{name: part for name, part in message.items() if part is not None} for message in value]


def _template(row: Row) -> dict[str, Any]:
    """What a chat template is given beside messages, by the columns that it is in."""
    settings = dict(row.get("chat_template_kwargs") or {})
    return settings | ({"tools": row["tools"]} if row.get("tools") else {})
