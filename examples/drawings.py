"""Draw the relaxed decoder, and roll-in with roll-out.

Run `python examples/drawings.py FOLDER`: it writes relaxed_decoder.png and roll_out.png there.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from freerun.costs import edit_distance
from freerun.references import min_edit_distance
from freerun.relaxations import soft_argmax

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#777777", "#222222"
PALE = {BLUE: "#D6E6F2", ORANGE: "#F9DFCF", GREEN: "#D2EDE4", GREY: "#EEEEEE"}
Point = tuple[float, float]


def sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure without axes, in which one unit is 0.75 inches."""
    figure = Figure(figsize=(0.75 * width, 0.75 * height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    return figure, axes


def box(
    axes: Axes, centre: Point, size: Point, text: str, colour: str = GREY, font: float = 12
) -> None:
    """Draw a rounded box around a text."""
    (x, y), (width, height) = centre, size
    shape = FancyBboxPatch(
        (x - width / 2 + 0.08, y - height / 2 + 0.08),
        width - 0.16,
        height - 0.16,
        boxstyle="round,pad=0.08",
        facecolor=PALE[colour],
        edgecolor=colour,
        linewidth=1.2,
    )
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", fontsize=font, color=INK)


def arrow(axes: Axes, *points: Point, colour: str = INK, dashed: bool = False) -> None:
    """Draw an arrow through points."""
    for start, end in pairwise(points[:-1]):
        axes.plot(*zip(start, end, strict=True), color=colour, linewidth=1.3,
                  linestyle="--" if dashed else "-", solid_capstyle="round")  # fmt: skip
    head = FancyArrowPatch(
        points[-2],
        points[-1],
        arrowstyle="-|>",
        mutation_scale=11,
        color=colour,
        linewidth=1.3,
        linestyle="--" if dashed else "-",
        shrinkA=0,
        shrinkB=0,
    )
    axes.add_patch(head)


def note(axes: Axes, place: Point, text: str, colour: str = INK, **settings: object) -> None:
    """Draw a line of text."""
    axes.text(*place, text, **{"ha": "center", "va": "center", "fontsize": 11, "color": colour,
                               **settings})  # fmt: skip


def bars(axes: Axes, corner: Point, size: Point, values: Sequence[float], colour: str) -> None:
    """Draw a small bar chart."""
    (x, y), (width, height) = corner, size
    step = width / len(values)
    for i, value in enumerate(values):
        axes.add_patch(
            Rectangle((x + (i + 0.12) * step, y), 0.76 * step, height * value, facecolor=colour)
        )
    axes.plot([x, x + width], [y, y], color=INK, linewidth=1)


def vector(
    axes: Axes, corner: Point, shades: Sequence[float], side: float, strength: float
) -> None:
    """Draw a vector as a column of squares, in a color that fades with its weight."""
    x, y = corner
    for i, shade in enumerate(shades):
        axes.add_patch(
            Rectangle(
                (x, y + i * side),
                side,
                side,
                facecolor=BLUE,
                alpha=strength * shade,
                linewidth=0,
            )
        )
    outline = Rectangle(corner, side, side * len(shades), fill=False, edgecolor=INK, linewidth=0.8)
    axes.add_patch(outline)


def relaxed_decoder() -> Figure:
    """Draw one step of differentiable scheduled sampling, and the path of its gradient."""
    figure, axes = sheet(12.4, 5.9)
    axes.set_ylim(0.4, 6.3)
    scores, later = [0.35, 0.8, 0.15, 0.7, 0.3], [0.2, 0.1, 0.9, 0.3, 0.5]
    weights = soft_argmax(torch.tensor(scores), 8.0)
    embeddings = torch.tensor(
        [[0.9, 0.1, 0.6], [0.1, 0.9, 0.3], [0.5, 0.5, 1.0], [1.0, 0.6, 0.0], [0.3, 0.2, 0.7]]
    )

    for x, name, values in ((1.5, "t − 1", scores), (10.9, "t", later)):
        box(axes, (x, 3.1), (1.9, 0.9), f"cell {name}", font=13)
        bars(axes, (x - 0.75, 4.6), (1.5, 1.0), values, GREY)
        arrow(axes, (x, 3.58), (x, 4.5))
        note(axes, (x, 5.95), f"scores s of cell {name}")
    arrow(axes, (2.48, 3.1), (9.92, 3.1), colour=GREY)
    note(axes, (3.75, 3.33), "state of the decoder", GREY)

    bars(axes, (3.75, 4.6), (1.5, 1.0), weights.tolist(), BLUE)
    note(axes, (4.5, 5.95), "w = softmax(α·s)")
    arrow(axes, (2.45, 5.05), (3.6, 5.05))
    arrow(axes, (5.4, 5.05), (6.1, 5.05))
    for i, (weight, shades) in enumerate(zip(weights, embeddings, strict=True)):
        strength = 0.1 + 0.9 * float(weight / weights.max())
        vector(axes, (6.27 + 0.39 * i, 4.62), shades.tolist(), 0.31, strength)
    note(axes, (7.2, 5.95), "embeddings e(a) by weight")
    arrow(axes, (7.2, 4.5), (7.2, 2.33))
    vector(axes, (6.8, 3.4), (weights @ embeddings).tolist(), 0.25, 1.0)
    note(axes, (6.68, 3.78), "ē = Σ w(a)·e(a)", BLUE, ha="right")

    axes.add_patch(Circle((7.2, 1.8), 0.48, facecolor="#FFF6CC", edgecolor=INK, linewidth=1.2))
    note(axes, (7.2, 1.8), "coin")
    box(axes, (3.6, 1.8), (2.9, 0.8), "$e(y^*_{t-1})$, the reference", GREEN, font=11)
    arrow(axes, (5.08, 1.8), (6.7, 1.8))
    note(axes, (5.85, 2.02), "ε", GREEN, fontsize=13)
    note(axes, (7.02, 2.68), "1 − ε", BLUE, ha="right", fontsize=12)
    arrow(axes, (7.7, 1.8), (10.9, 1.8), (10.9, 2.62))
    note(axes, (9.2, 1.55), "input of cell t")
    arrow(axes, (1.5, 1.8), (1.5, 2.62))

    way = [(10.55, 2.62), (10.55, 2.2), (7.47, 2.2), (7.47, 4.3), (1.85, 4.3), (1.85, 3.6)]
    arrow(axes, *way, colour=ORANGE, dashed=True)
    note(axes, (9.1, 2.42), "gradient", ORANGE)
    note(
        axes,
        (6.2, 0.8),
        "Scheduled sampling feeds the embedding of one own token, through whose choice no gradient "
        "flows.",
        GREY,
        fontsize=10.5,
    )
    return figure


TARGET, ROLLED_IN = "spell", "sp"
LEARNED = {"a": "rk", "e": "ll", "i": "ne", "l": "ash", "o": "ol", "eos": ""}
"""A plausible completion by the policy for every token that is tried."""


def tokens_of(word: str) -> torch.Tensor:
    """Return the numbers of letters, as one row."""
    return torch.tensor([[string.ascii_lowercase.index(letter) for letter in word]]).long()


def completion(prefix: str) -> str:
    """Return the completion of a prefix by the reference policy of the edit distance."""
    lengths = torch.tensor([len(prefix)]), torch.tensor([len(TARGET)])
    tokens, count = min_edit_distance(tokens_of(prefix), lengths[0], tokens_of(TARGET), lengths[1])
    return "".join(string.ascii_lowercase[i] for i in tokens[0, : int(count)].tolist())


def errors(word: str) -> int:
    """Return the edit distance to the reference."""
    lengths = torch.tensor([len(word)]), torch.tensor([len(TARGET)])
    cost = edit_distance(tokens_of(word), lengths[0], tokens_of(TARGET), lengths[1])
    return round(float(cost) * len(TARGET))


def letters(axes: Axes, place: Point, text: str, colour: str) -> None:
    """Draw a box for every letter, from left to right."""
    for i, letter in enumerate(text):
        box(axes, (place[0] + 0.62 * i, place[1]), (0.56, 0.56), letter, colour)


def costs(axes: Axes, place: Point, wrong: int) -> None:
    """Draw a cost as an entry of a vector, darker for higher costs."""
    x, y = place
    shade = wrong / len(TARGET)
    axes.add_patch(
        Rectangle((x - 0.45, y - 0.36), 0.9, 0.72, facecolor=ORANGE, alpha=shade, linewidth=0)
    )
    frame = Rectangle((x - 0.45, y - 0.36), 0.9, 0.72, fill=False, edgecolor=INK, linewidth=0.8)
    axes.add_patch(frame)
    note(axes, place, f"{wrong}/{len(TARGET)}" if wrong else "0")


def roll_out() -> Figure:
    """Draw one cell of SEARNN: roll-in, the tokens tried, completions and their costs."""
    figure, axes = sheet(13.2, 7.4)
    top, step, cell, first = 5.95, 0.72, 2.35, 3.55
    rows = {token: top - step * i for i, token in enumerate(LEARNED)}
    middle = top - step * (len(rows) - 1) / 2

    note(axes, (0.95, 7.0), "roll-in", fontsize=13, weight="bold")
    letters(axes, (0.62, middle), ROLLED_IN, BLUE)
    box(axes, (cell, middle), (0.9, 0.9), "cell", ORANGE)
    arrow(axes, (1.53, middle), (cell - 0.47, middle))
    note(axes, (1.25, middle - 0.85), f"the reference\nis “{TARGET}”", GREY, fontsize=10)
    note(axes, (first, 7.0), "try", fontsize=13, weight="bold")
    note(axes, (5.3, 7.0), "roll-out: learned", fontsize=13, weight="bold")
    note(axes, (10.25, 7.0), "roll-out: reference", fontsize=13, weight="bold")
    for x in (7.55, 12.05):
        note(axes, (x, 6.52), "cost c(a)")
    for token, y in rows.items():
        arrow(axes, (cell + 0.47, middle), (first - 0.46, y), colour=GREY)
        box(axes, (first, y), (0.78 if token == "eos" else 0.56, 0.56), token, ORANGE)
        written = ROLLED_IN + ("" if token == "eos" else token)
        learned, taught = LEARNED[token], "" if token == "eos" else completion(written)
        for x, rest, colour, place in ((4.45, learned, BLUE, 7.55), (9.3, taught, GREEN, 12.05)):
            letters(axes, (x, y), rest, colour)
            note(
                axes, (x + 0.62 * len(rest) - 0.2, y), written + rest, GREY, ha="left", fontsize=10
            )
            costs(axes, (place, y), errors(written + rest))

    axes.add_patch(Circle((9.8, 0.75), 0.48, facecolor="#FFF6CC", edgecolor=INK, linewidth=1.2))
    note(axes, (9.8, 0.75), "coin")
    note(axes, (9.8, 1.45), "mixed: by sentence", GREY, fontsize=10)
    for x, end in ((7.55, 9.29), (12.05, 10.31)):
        arrow(axes, (x, 1.95), (x, 1.0), (end, 1.0), colour=GREY)
    box(axes, (5.2, 0.75), (3.4, 0.8), "loss of scores s and costs c", font=12)
    arrow(axes, (9.3, 0.75), (6.92, 0.75))
    arrow(axes, (3.48, 0.75), (cell, 0.75), (cell, middle - 0.48), colour=ORANGE, dashed=True)
    note(axes, (cell - 0.1, 1.3), "gradient", ORANGE, ha="right")
    return figure


def main(folder: str) -> None:
    """Write all drawings to `folder`."""
    for name, drawing in {"relaxed_decoder": relaxed_decoder, "roll_out": roll_out}.items():
        drawing().savefig(Path(folder) / f"{name}.png", dpi=150)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/drawings.py FOLDER")
    main(sys.argv[1])
