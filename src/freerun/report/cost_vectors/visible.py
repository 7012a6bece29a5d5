"""How texts and costs are written where there is little room, and everything is to be seen."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

SPACE, NOTHING = "␣", "(nothing)"


def visible(text: str) -> str:
    """A text with ␣ for the spaces at its ends, and escapes for what cannot be printed."""
    return visible_parts(text, "", "")[0]


def visible_parts(before: str, tried: str, after: str) -> tuple[str, str, str]:
    """The parts of a text likewise; `tried` has ␣ wherever it is nothing but spaces."""
    text = before + tried + after
    start, end = len(before), len(before) + len(tried)
    first, last = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))
    blank = range(start, end) if not tried.strip(" ") else range(0)
    shown = [
        SPACE
        if character == " " and (not first <= i < last or i in blank)
        else character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for i, character in enumerate(text)
    ]
    return "".join(shown[:start]), "".join(shown[start:end]), "".join(shown[end:])


def short(cost: float) -> str:
    """A cost in three columns where it lies in [0, 1000): .27, 1.2, 12."""
    if not 0 <= cost < 999.5:
        return f"{cost:.2g}"
    if cost < 0.995:
        return f"{cost:.2f}"[1:]
    return f"{cost:.1f}" if cost < 9.95 else f"{cost:.0f}"


def cropped(text: str, wide: int) -> str:
    """A text in so many columns at most; where it is longer, it ends in a mark of that."""
    return text if cell_len(text) <= wide else f"{set_cell_size(text, wide - 1)}…"
