"""Rows that are tokens already, with labels that say what is to be learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freerun.tasks.base import DataError
from freerun.tasks.tokenized.columns import IGNORED, Pair, Row


def labelled(row: Row, where: str, *, pad: int, size: int, causal: bool) -> Pair:
    """The prompt and the completion of a row of `input_ids` and `labels`.

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
        DataError: where tokens or labels are none, do not fit each other, nothing is to be learnt,
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
