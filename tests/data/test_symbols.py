"""Which texts are symbols between spaces."""

import pytest

from freerun.data.symbols import are_symbols

SOUNDS = ["ʃ a", "ʃ j ɛ̃", "a m aː", "t͡ɕʰ a m", "l aː t͡ɕʰ", "l ʃ", "m a l j", "ɛ̃ j"]
NUMBERS = [f"{i} or {i}" for i in range(40)]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (SOUNDS, True),
        ([*SOUNDS, ""], True),
        (["K AE1 T", "T AE1 K", "AE1 K"], True),  # the stress is part of the symbol
        ([*SOUNDS, *["a"] * 2], True),
        ([*SOUNDS, *["a"] * 3], False),  # 8 of 11 have several symbols
        ([*SOUNDS, "a  l"], False),
        (["turn left", "turn right"], False),
        (["letters"] * 5, False),
        (NUMBERS, False),  # each number is in one text only
        ([f"{i} {i + 1}" for i in range(301)] * 2, False),
        ([f"{i} {i + 1}" for i in range(299)] * 2, True),
        (["", ""], False),
        ([], False),
    ],
)
def test_symbols_are_short_few_and_frequent(texts, expected):
    assert are_symbols(texts) == expected
