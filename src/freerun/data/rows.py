"""Rows with the usual columns as prompts and completions; lines to predict from as rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from freerun.data.tables import FileRow, drop_nulls, parse_object
from freerun.errors import DataError

Row = Mapping[str, Any]
"""The columns of an example by name, such as `source` and `target` (see `ROW_COLUMNS`)."""
Message = dict[str, Any]
Content = str | list[Message] | list[int] | None
"""Text, a conversation or tokens; None if there is none."""

ROW_COLUMNS: dict[str, tuple[str, ...]] = {
    "input_ids": ("input_ids", "labels"),
    "prompt": ("prompt", "completion"),
    "messages": ("messages",),
    "source": ("source", "target"),
    "text": ("text",),
}
"""The columns of each kind of rows, under the first of them."""

FACTOR_COLUMNS = ("tokens", "tags")
"""The columns of rows that are tagged words."""

FEATURE_COLUMNS = ("features", "target")
"""The columns of rows whose sources are real-valued."""

IGNORED = -100
"""The label of tokens that are not learned."""


@dataclass(frozen=True)
class PromptPair:
    """A prompt and its completion.

    Args:
        where: the row or line from which it was read, for messages.
        prompt: the text to read; None if there is none.
        completion: the text to write after it; None if it is to be predicted.
        template: other arguments of the chat template, such as tools.
        blocks: the maximum number of pieces that running text is cut into; None for any number.
    """

    where: str
    prompt: Content
    completion: Content = None
    template: Row = field(default_factory=dict)
    blocks: int | None = None


def find_kind(
    row: Row, name: str, *, targets: bool = True, hint: str = "", expected: str | None = None
) -> str:
    """Return the kind of a row: the first of `ROW_COLUMNS` whose columns it has.

    Args:
        row: the row.
        name: where it comes from, for messages.
        targets: whether the columns of targets must be present, too.
        hint: what to do if it has none of them, for the message.
        expected: a kind that is returned if the row has its columns, although others may be first;
            except prompt, if it has input_ids and labels: codecs of either have this column.

    Raises:
        DataError: if it has none of them.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{name}: it is a {type(row).__name__}; a row is a mapping of columns")
    kinds = ROW_COLUMNS if targets else {kind: columns[:1] for kind, columns in ROW_COLUMNS.items()}
    found = [kind for kind, columns in kinds.items() if set(columns) <= set(row)]
    if found:
        tokenized = expected == "prompt" and set(ROW_COLUMNS["input_ids"]) <= set(row)
        return expected if expected in found and not tokenized else found[0]
    known = "; ".join(map(" and ".join, kinds.values()))
    there = ", ".join(map(str, row)) or "none"
    hint = f" ({hint})" if hint else ""
    raise DataError(f"{name}: the columns are {there}; known are {known}{hint}")


def list_rows(rows: Iterable[Row]) -> list[Row]:
    """Return rows as a list, of a Dataset of the `datasets` library as they were given to it.

    Arrays and tensors of a Dataset with a format become lists, and nulls that its columns add to
    objects are left out (see `drop_nulls`).
    """
    found = [plain_row(row) for row in rows]
    return [*map(drop_nulls, found)] if hasattr(rows, "column_names") else found


def plain_row(row: Row) -> Row:
    """Return a row with lists instead of arrays and tensors, which Datasets with a format have."""
    if not isinstance(row, Mapping) or not any(hasattr(value, "tolist") for value in row.values()):
        return row
    return {n: value.tolist() if hasattr(value, "tolist") else value for n, value in row.items()}


def name_rows(rows: Sequence[Row], name: str) -> list[str]:
    """Return the names of rows in messages: their places in a file, or their numbers.

    The place of a row that is not from a file is its column `where`.
    """
    return [
        row.place if isinstance(row, FileRow) else str(_where(row) or f"{name}, row {i}")
        for i, row in enumerate(rows)
    ]


def _where(row: Row) -> object:
    return row.get("where") if isinstance(row, Mapping) else None


def make_pairs(
    rows: Iterable[Row],
    places: Iterable[str],
    kind: str,
    *,
    separator: str,
    targets: bool = True,
    blank: bool = False,
) -> list[PromptPair]:
    """Return rows of one kind, except `input_ids`, as prompts and completions.

    Args:
        rows: the rows.
        places: the name of each in messages.
        kind: one of `ROW_COLUMNS`.
        separator: the text after a source.
        targets: whether completions are read; if not, they are ignored.
        blank: whether a text may consist of white space.

    Raises:
        DataError: if a column is missing or not text. The message names row and column.
    """
    read = {
        "prompt": _pair_from_prompt,
        "messages": _pair_from_messages,
        "source": _pair_from_source,
        "text": _pair_from_text,
    }[kind]
    return [
        read(row, place, separator, targets, blank) for row, place in zip(rows, places, strict=True)
    ]


def _pair_from_prompt(
    row: Row, where: str, separator: str, targets: bool, blank: bool
) -> PromptPair:
    prompt = _read_content(row, "prompt", where, blank)
    if not targets:
        return PromptPair(where, prompt, None, _template_settings(row, where))
    completion = _read_content(row, "completion", where, blank)
    if isinstance(prompt, str) != isinstance(completion, str):
        raise DataError(f"{where}: prompt and completion must both be text, or both be messages")
    return PromptPair(where, prompt, completion, _template_settings(row, where))


def _pair_from_messages(
    row: Row, where: str, separator: str, targets: bool, blank: bool
) -> PromptPair:
    messages = _read_messages(row.get("messages"), "messages", where)
    last = messages[-1]["role"]
    if not targets:
        asked = messages[:-1] if last == "assistant" and len(messages) > 1 else messages
        return PromptPair(where, asked, None, _template_settings(row, where))
    if last != "assistant":
        raise DataError(
            f"{where}: the last message is by {last!r}; it must be the assistant's, to be learned"
        )
    if len(messages) == 1:
        raise DataError(f"{where}: there is no message before the assistant's")
    return PromptPair(where, messages[:-1], messages[-1:], _template_settings(row, where))


def _pair_from_source(
    row: Row, where: str, separator: str, targets: bool, blank: bool
) -> PromptPair:
    target = _read_text(row, "target", where, blank) if targets else None
    return PromptPair(where, _read_text(row, "source", where, blank) + separator, target)


def _pair_from_text(row: Row, where: str, separator: str, targets: bool, blank: bool) -> PromptPair:
    text = _read_text(row, "text", where, blank)
    blocks = row.get("blocks")
    if blocks is not None and (type(blocks) is not int or blocks < 1):
        raise DataError(f"{where}: blocks is {blocks!r:.20}; it must be a number of at least 1")
    return PromptPair(where, None, text, blocks=blocks) if targets else PromptPair(where, text)


def _read_text(row: Row, column: str, where: str, blank: bool) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        raise DataError(f"{where}: the {column} is {text!r:.40}; it must be text")
    if not (text if blank else text.strip()):
        raise DataError(f"{where}: the {column} is empty")
    return text


def _read_content(row: Row, column: str, where: str, blank: bool) -> str | list[Message]:
    value = row.get(column)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _read_messages(value, column, where)
    if not isinstance(value, str):
        raise DataError(f"{where}: the {column} is {value!r:.40}; it must be text or messages")
    return _read_text(row, column, where, blank)


def _read_messages(value: object, column: str, where: str) -> list[Message]:
    """Return messages without fields that are None, which Arrow adds if others have them."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise DataError(f"{where}: the {column} is {value!r:.40}; it must be a list of messages")
    for i, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise DataError(f"{where}: message {i} of {column} has no role; it is {message!r:.40}")
        content = message.get("content")
        if content is not None and not isinstance(content, (str, list)):
            raise DataError(
                f"{where}: the content of message {i} of {column} is {content!r:.40}; it must be "
                "text"
            )
    return [{name: part for name, part in message.items() if part is not None} for message in value]


def _template_settings(row: Row, where: str) -> dict[str, Any]:
    """Return the arguments of a chat template besides messages, from their columns."""
    settings = row.get("chat_template_kwargs") or {}
    if not isinstance(settings, Mapping):
        raise DataError(f"{where}: chat_template_kwargs is {settings!r:.40}; it must be a mapping")
    settings = dict(settings)
    return settings | ({"tools": row["tools"]} if row.get("tools") else {})


def split_labels(row: Row, where: str, *, pad: int, size: int, causal: bool) -> PromptPair:
    """Split a row of `input_ids` and `labels` into its prompt and its completion.

    For a causal model, labels are aligned with tokens, and are -100 on the prompt. The learned
    tokens are the end of the row, in one piece; the first token of a row is always prompt. For an
    encoder-decoder, `input_ids` are the source and `labels` the target. Tokens where an
    `attention_mask` is 0 are left out, as is padding at the end whose labels are -100.

    Args:
        row: the row; without labels, all of it is the prompt.
        where: the name of the row in messages.
        pad: the padding token.
        size: the number of tokens; ids are 0 … size-1.
        causal: whether it is for a causal model.

    Raises:
        DataError: if tokens or labels are invalid, do not match each other, or no token is learned,
            or learned tokens are in several pieces.
    """
    tokens = _read_tokens(row, "input_ids", where, size)
    mask = row.get("attention_mask")
    mask = [1] * len(tokens) if mask is None else mask
    if not isinstance(mask, Sequence) or isinstance(mask, str):
        raise DataError(f"{where}: attention_mask is {mask!r:.40}; it must be a list of 0 and 1")
    if len(mask) != len(tokens):
        raise DataError(f"{where}: attention_mask and input_ids differ in length")
    kept = [i for i, there in enumerate(mask) if there]
    if row.get("labels") is None:
        return PromptPair(where, [tokens[i] for i in kept])
    labels = _read_tokens(row, "labels", where, size)
    if not causal:
        while labels and labels[-1] == IGNORED:
            labels.pop()
        if IGNORED in labels:
            raise DataError(f"{where}: labels are -100 before the end of the target")
        return _make_pair(where, [tokens[i] for i in kept], labels)
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
                "learned must be the end of a row, in one piece: make a row of each piece, with "
                "all that stands before it as its prompt"
            )
        if labels[i] != tokens[i]:
            raise DataError(
                f"{where}: token {i} is {tokens[i]} in input_ids and {labels[i]} in labels, which "
                "must be equal or -100; labels are not shifted"
            )
    begin = max(begin, 1)
    return _make_pair(where, tokens[:begin], tokens[begin:])


def _make_pair(where: str, prompt: list[int], completion: list[int]) -> PromptPair:
    if not completion:
        raise DataError(f"{where}: there are no tokens to learn; every label is -100")
    return PromptPair(where, prompt, completion)


def _read_tokens(row: Row, column: str, where: str, size: int) -> list[int]:
    values = row.get(column)
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise DataError(f"{where}: {column} is {values!r:.40}; it must be a list of tokens")
    for value in values:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not (0 <= value < size or (column == "labels" and value == IGNORED)):
            raise DataError(f"{where}: {column} has {value!r:.20}; tokens lie in 0 … {size - 1}")
    return list(values)


def write_object(row: Row) -> str:
    """Return a row of a table as a JSON object in one line; dates and the like become text."""
    return json.dumps(dict(row), ensure_ascii=False, default=str)


_JSON_LINES = re.compile(r"\.(jsonl|ndjson)(\.gz)?$", re.IGNORECASE)


def parse_lines(lines: Sequence[str], name: str, column: str) -> tuple[list[Row], str]:
    """Parse lines to predict from as rows; also return their kind.

    They are JSON objects if the first one is an object, one of them is an object with a column of
    `ROW_COLUMNS`, or the name ends in .jsonl or .ndjson; all must be, then. Rows that have the
    column `column` are of its kind, whatever others they have.

    Args:
        lines: texts, or JSON objects with the columns of `ROW_COLUMNS`.
        name: the name of their file.
        column: the column of a line that is not such an object, the first of one of `ROW_COLUMNS`.

    Raises:
        DataError: if a line is wrong. The message names it.
    """
    if not lines:
        raise DataError(f"{name}: nothing to read")
    places = [f"{name}, line {number}" for number in range(1, len(lines) + 1)]
    for line, where in zip(lines, places, strict=True):
        if not line.strip():
            raise DataError(f"{where}: there is no prompt")
    first = {columns[0] for columns in ROW_COLUMNS.values()}
    known = (row for line in lines if (row := _parse_object(line)) and not first.isdisjoint(row))
    is_json = _JSON_LINES.search(name) or _parse_object(lines[0]) is not None or any(known)
    if not is_json:
        rows, kind = [_line_as_row(line, column) for line in lines], column
    else:
        rows = [_parse_row(line, where) for line, where in zip(lines, places, strict=True)]
        kind = find_kind(rows[0], places[0], targets=False, expected=column)
    return [
        {**row, "where": where, "lines": [line]}
        for row, where, line in zip(rows, places, lines, strict=True)
    ], kind


def complete_line(source: Sequence[str], text: str, column: str) -> str | None:
    """Return the JSON object of a line, with the completion in its column; None without one.

    Args:
        source: the line.
        text: the completion.
        column: the column of a prompt, as for `parse_lines`.
    """
    row = parse_row_of_line(source)
    if row is None:
        return None
    kind = find_kind(row, "the line", targets=False, expected=column)
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


def parse_row_of_line(source: Sequence[str]) -> Row | None:
    """Return the JSON object from which a source was read; None if it was read from plain lines."""
    return _parse_object(source[0]) if source else None


def _line_as_row(line: str, column: str) -> Row:
    if column == "messages":
        return {"messages": [{"role": "user", "content": line}]}
    return {column: line}


def _parse_object(line: str) -> Row | None:
    """Return the JSON object in a line, if there is one."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _parse_row(line: str, where: str) -> Row:
    if not line.lstrip().startswith("{"):
        raise DataError(f"{where}: it is not a JSON object, as other lines are")
    return parse_object(line, where)
