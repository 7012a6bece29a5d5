"""Texts whose tokens are symbols between spaces, such as pronunciations in phonemes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

LEAST_SPACED = 0.8
"""The minimum fraction of texts that have several symbols."""
LEAST_SHORT, MOST_LETTERS = 0.98, 4
"""The minimum fraction of short symbols, and the maximum number of letters of one."""
MOST_KINDS = 300
"""The maximum number of different symbols."""
MOST_SINGLE = 0.05
"""The maximum fraction of symbols that occur in one text only."""

_MARKS = ("Mn", "Mc", "Me", "Lm", "Sk")
"""Categories of characters that modify the letter before them, as in aː and t͡ɕʰ."""


def are_symbols(texts: Sequence[str]) -> bool:
    """Return whether texts are sequences of symbols between spaces, not of words.

    They are if at least 80 % of them have several symbols between single spaces, 98 % of all
    symbols have at most four letters (without marks, modifiers and punctuation), there are at most
    300 different ones, and at most 5 % are of those that only one text has, so that few more are to
    be expected. Words of any language fail at length, number or frequency.

    Args:
        texts: the texts; empty ones are ignored.
    """
    cut = [text.split(" ") for text in map(str.strip, texts) if text]
    counts = Counter(symbol for symbols in cut for symbol in symbols)
    total = counts.total()
    if not total or "" in counts or len(counts) > MOST_KINDS:
        return False
    short = sum(count for symbol, count in counts.items() if _count_letters(symbol) <= MOST_LETTERS)
    texts_with = Counter(symbol for symbols in cut for symbol in set(symbols))
    single = sum(count for symbol, count in counts.items() if texts_with[symbol] == 1)
    spaced = sum(len(symbols) > 1 for symbols in cut)
    return (
        spaced >= LEAST_SPACED * len(cut)
        and short >= LEAST_SHORT * total
        and single <= MOST_SINGLE * total
    )


def _count_letters(symbol: str) -> int:
    categories = map(unicodedata.category, symbol)
    return sum(name not in _MARKS and not name.startswith("P") for name in categories)
