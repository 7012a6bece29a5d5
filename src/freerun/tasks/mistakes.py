"""Tokens that are plausibly written in the place of others."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DIGIT = re.compile(r"([Ġ▁]?)[0-9]")
"""One digit, maybe behind the space of byte-level (Ġ) or SentencePiece tokens (▁)."""


def mistaken_digits(symbols: Sequence[str]) -> dict[int, list[int]]:
    """For every token that is one digit, the others that are.

    Digits with a space before them are mistaken for such only.

    Args:
        symbols: the text of every token, in the order of their ids.

    Raises:
        ValueError: where no two tokens are digits.
    """
    groups: dict[str, list[int]] = {}
    for token, symbol in enumerate(symbols):
        if match := _DIGIT.fullmatch(symbol):
            groups.setdefault(match[1], []).append(token)
    found = {
        token: [other for other in group if other != token]
        for group in groups.values()
        if len(group) > 1
        for token in group
    }
    if not found:
        raise ValueError("no two tokens of the model are single digits; use noise_tokens=random")
    return found
