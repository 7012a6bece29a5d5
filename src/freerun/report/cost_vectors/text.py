"""Format texts, costs and colors compactly."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

RGB = tuple[float, float, float]

# From pale sand to dark blue: distinguishable by lightness alone, so also for the color-blind and
# in gray.
STOPS: tuple[RGB, ...] = (
    (0.992, 0.969, 0.910),
    (0.776, 0.867, 0.890),
    (0.431, 0.671, 0.796),
    (0.141, 0.408, 0.608),
    (0.051, 0.149, 0.298),
)


def shade(cost: float, low: float, high: float) -> RGB:
    """Return the color of a cost on a scale from `low` to `high`."""
    place = (cost - low) / (high - low) * (len(STOPS) - 1) if high > low else 0.0
    i = min(int(place), len(STOPS) - 2)
    pale, dark, rest = STOPS[i], STOPS[i + 1], place - i
    red, green, blue = (a + rest * (b - a) for a, b in zip(pale, dark, strict=True))
    return red, green, blue


def is_dark(color: RGB) -> bool:
    """Return whether text on a color should be white: if its luma (ITU-R BT.601) is below ½."""
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5


def hexadecimal(color: Iterable[float]) -> str:
    """Format a color as in #0A1B2C."""
    return "#" + "".join(f"{round(255 * part):02X}" for part in color)


SPACE, NOTHING = "␣", "(nothing)"


def visible(text: str) -> str:
    """Replace spaces at the ends of a text by ␣, and unprintable characters by escapes."""
    return visible_parts(text, "", "")[0]


def visible_parts(before: str, tried: str, after: str) -> tuple[str, str, str]:
    """Apply `visible` to a text in three parts; a `tried` of spaces only becomes ␣."""
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
    """Format a cost, in at most three columns if it is in [0, 1000): .27, 1.2, 12."""
    if not 0 <= cost < 999.5:
        return f"{cost:.2g}"
    if cost < 0.995:
        return f"{cost:.2f}"[1:]
    return f"{cost:.1f}" if cost < 9.95 else f"{cost:.0f}"


def crop(text: str, wide: int) -> str:
    """Cut a text to a maximum number of columns; a text that was cut ends in an ellipsis."""
    return text if cell_len(text) <= wide else f"{set_cell_size(text, wide - 1)}…"
