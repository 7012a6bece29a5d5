"""Lines to predict from: a prompt each, or a JSON object with columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from freerun.tasks.base import DataError
from freerun.tasks.tokenized.columns import Row, kind_of, pairs_of
from freerun.tasks.tokenized.labels import labelled

if TYPE_CHECKING:
    from freerun.tasks.tokenized.codec import TextCodec


def prompts_of(codec: TextCodec, lines: Sequence[str], name: str) -> list[list[int]]:
    """The tokens of the prompts in lines: what they are is told by the first line.

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
        rows, kind = [_row(line, codec.column) for line in lines], codec.column
    else:
        rows = [_parsed(line, where) for line, where in zip(lines, places, strict=True)]
        kind = kind_of(rows[0], places[0], learnt=False)
    prompts = _encoded(codec, rows, places, kind)
    special = codec.encoder.special
    cut = codec.bounds.cut
    return [cut(prompt, where, special) for prompt, where in zip(prompts, places, strict=True)]


def answered(source: Sequence[str], text: str) -> str | None:
    """The JSON object of a line with the completion in its column; None where it is none."""
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


def _encoded(
    codec: TextCodec, rows: Sequence[Row], places: Sequence[str], kind: str
) -> list[list[int]]:
    if kind == "input_ids":
        given = [{name: row[name] for name in row if name != "labels"} for row in rows]
        size, pad, causal = codec.target.actions, codec.target.pad, codec.start is None
        pairs = [
            labelled(row, where, pad=pad, size=size, causal=causal)
            for row, where in zip(given, places, strict=True)
        ]
        return codec.encoder.prompts(pairs)
    separator = codec.separator if codec.start is None else ""
    pairs = pairs_of(rows, places, kind, separator=separator, learnt=False)
    if kind == "text":
        return codec.encoder.continued([str(pair.prompt) for pair in pairs])
    return codec.encoder.prompts(pairs)


def _row(line: str, column: str) -> Row:
    if column == "messages":
        return {"messages": [{"role": "user", "content": line}]}
    return {column: line}


def _object(line: str) -> Row | None:
    """The JSON object in a line, if it is one."""
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
