"""The colours of costs, in the terminal and in pictures: the darker, the dearer."""

from __future__ import annotations

from collections.abc import Iterable

RGB = tuple[float, float, float]

# From pale sand to dark blue: told apart by lightness alone, so under colour blindness and in grey.
STOPS: tuple[RGB, ...] = (
    (0.992, 0.969, 0.910),
    (0.776, 0.867, 0.890),
    (0.431, 0.671, 0.796),
    (0.141, 0.408, 0.608),
    (0.051, 0.149, 0.298),
)


def shade(cost: float, low: float, high: float) -> RGB:
    """The colour of a cost, where all of them lie between `low` and `high`."""
    place = (cost - low) / (high - low) * (len(STOPS) - 1) if high > low else 0.0
    i = min(int(place), len(STOPS) - 2)
    pale, dark, rest = STOPS[i], STOPS[i + 1], place - i
    red, green, blue = (a + rest * (b - a) for a, b in zip(pale, dark, strict=True))
    return red, green, blue


def is_dark(colour: RGB) -> bool:
    """Whether text on this colour should be white: where its luma, of ITU-R BT.601, is below ½."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5


def hexadecimal(colour: Iterable[float]) -> str:
    """A colour as in #0A1B2C."""
    return "#" + "".join(f"{round(255 * part):02X}" for part in colour)
