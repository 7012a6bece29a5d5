"""Cost vectors as a picture: the output that each token leads to, colored by its cost."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerun.report.cost_vectors.text import NOTHING, crop, hexadecimal, is_dark, shade, short
from freerun.report.cost_vectors.values import CellCosts, CostVectors, TriedToken
from freerun.report.plots import DPI, save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT = "DejaVu Sans Mono"
# All lengths are in inches, and whole numbers of dots, so that adjacent parts join without gaps.
# The size of the font is the one whose letters are as wide.
LETTER, ROW, EDGE, GAP = 9 / DPI, 28 / DPI, 30 / DPI, 36 / DPI
SIZE, TITLE = 72 * LETTER / (1233 / 2048), 1.25
NARROWEST, WIDEST = 6.6, 14.5
"""Cells that do not fit into the maximum width are drawn in another block below."""
LONGEST_OUTPUT, LONGEST_SYMBOL, MOST_OUTPUTS = 20, 14, 45
"""Longer outputs, or more rows, are not legible in squares: costs are shown instead."""
SCALE, NAMES = 1.5, 9
"""The length of the scale of colors, and the letters that names of texts have."""
GREY, BEST = "#666666", "#D55E00"
CHOSEN, WRITTEN, MISSING = "▶", "▷", "▪"
"""Marks; the last one replaces characters that the font lacks."""
HEADS: dict[str, dict[str, Any]] = {
    "cell": {"color": GREY},
    "roll-in": {"weight": "bold"},
    "target": {},
}
"""The heads of a column, and their styles."""
PARTS: tuple[dict[str, Any], ...] = ({"alpha": 0.65}, {"weight": "bold"}, {})
"""The styles of the three parts of an output: before the token, the token, and after it."""


def save_picture(vectors: CostVectors, path: Path) -> None:
    """Draw the cost vectors of a sentence into a PNG file.

    Raises:
        MissingExtraError: if matplotlib is missing.
        WriteError: if the picture cannot be written.
    """
    save_png(lambda: picture(vectors), path)


def picture(vectors: CostVectors) -> Figure:
    """Draw the cost vectors of a sentence as a heat map.

    Columns are cells; rows are tokens or, if there are too many, the cheapest tokens of every cell.
    The darker a square, the higher the cost. If every token has a row, a square contains the
    output, or its cost if the output would be illegible.
    """
    return _Picture(vectors).draw()


class _Picture:
    """A picture; coordinates are in inches from its upper left corner."""

    def __init__(self, vectors: CostVectors) -> None:
        from matplotlib.figure import Figure
        from matplotlib.font_manager import findfont, get_font

        self.vectors, self.rows, self.font = vectors, vectors.rows(), get_font(findfont(FONT))
        self.trials = [trial for _, row in self.rows for trial in row if trial is not None]
        self.symbols = max(len(_crop(trial.symbol)) for trial in self.trials)
        longest = max(len(trial.output or NOTHING) for trial in self.trials)
        few = vectors.grid and len(self.rows) <= MOST_OUTPUTS
        self.outputs = few and longest <= LONGEST_OUTPUT
        self.measure(longest)
        self.figure = Figure(figsize=(self.width, self.height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        self.axes.set_axis_off()

    def measure(self, longest: int) -> None:
        """Compute the layout, for a longest output of `longest` letters."""
        cells = self.vectors.cells
        heads = max(len(head) for cell in cells for head in _heads(cell))
        within = longest if self.outputs else max(len(self.body(trial)) for trial in self.trials)
        self.square = LETTER * (3 + max(within, heads))
        names = max(map(len, [*HEADS, *(_crop(name) for name, _ in self.rows)]))
        self.left = EDGE + LETTER * (2 + names)
        blocks = -(-len(cells) // max(1, int((WIDEST - self.left - EDGE) / self.square)))
        each = -(-len(cells) // blocks)
        self.parts = [slice(i, i + each) for i in range(0, len(cells), each)]
        self.width = max(NARROWEST, self.left + each * self.square + EDGE)
        self.heading = self.wrap_lines()
        self.top = EDGE + ROW * (1.5 + len(self.heading)) + GAP
        self.block = ROW * (len(HEADS) + len(self.rows)) + GAP
        self.height = self.top + len(self.parts) * self.block + 2 * ROW + EDGE

    def body(self, trial: TriedToken) -> str:
        """Return the text of a square that does not contain the output."""
        if self.vectors.grid:
            return short(trial.cost)
        return f"{_crop(trial.symbol):{self.symbols}} {short(trial.cost)}"

    def wrap_lines(self) -> list[tuple[str, str]]:
        """Return the lines below the title, left of the scale: their labels and texts."""
        width = int((self.width - 2 * EDGE - SCALE - GAP) / LETTER) - NAMES
        lines = []
        for name, text in self.vectors.lines.items():
            if name == "cost":
                continue  # the scale names it
            first, *more = textwrap.wrap(text, width) or [""]
            lines += [(name, first), *(("", line) for line in more)]
        return lines

    def draw(self) -> Figure:
        """Draw everything."""
        width = int((self.width - 2 * EDGE - SCALE - GAP) / LETTER / TITLE)
        title = crop(self.vectors.name, width)
        self.text(EDGE, EDGE + ROW / 2, title, weight="bold", fontsize=TITLE * SIZE)
        for i, (name, words) in enumerate(self.heading):
            y = EDGE + ROW * (2 + i)
            self.text(EDGE, y, name, color=GREY)
            self.text(EDGE + NAMES * LETTER, y, words)
        self.draw_scale(self.width - EDGE - SCALE, EDGE)
        for i, part in enumerate(self.parts):
            self.draw_block(part, self.top + i * self.block)
        self.draw_legend(self.height - EDGE - 2 * ROW)
        return self.figure

    def draw_scale(self, x: float, y: float, steps: int = 60) -> None:
        """Draw the scale of colors."""
        self.text(x, y + ROW / 2, crop(self.vectors.cost, int(SCALE / LETTER)))
        for i in range(steps):
            color = hexadecimal(shade(i / (steps - 1), 0.0, 1.0))
            place = (x + SCALE * i / steps, y + 1.3 * ROW, SCALE / steps, 0.7 * ROW)
            self.rectangle(*place, facecolor=color, edgecolor=color, linewidth=0.5)
        low, high = map(short, self.vectors.limits)
        self.text(x, y + 2.7 * ROW, low, color=GREY)
        self.text(x + SCALE, y + 2.7 * ROW, high, color=GREY, ha="right")

    def draw_block(self, part: slice, top: float) -> None:
        """Draw some cells side by side."""
        cells, first = self.vectors.cells[part], top + len(HEADS) * ROW
        for i, name in enumerate(HEADS):
            self.text(EDGE, top + (i + 0.5) * ROW, name, color=GREY)
        for j, cell in enumerate(cells):
            x = self.left + (j + 0.5) * self.square
            for i, (head, style) in enumerate(zip(_heads(cell), HEADS.values(), strict=True)):
                self.text(x, top + (i + 0.5) * ROW, head, ha="center", **style)
        for i, (name, row) in enumerate(self.rows):
            y = first + i * ROW
            self.text(self.left - LETTER, y + ROW / 2, _crop(name), ha="right")
            for j, (cell, trial) in enumerate(zip(cells, row[part], strict=True)):
                if trial is not None:
                    self.draw_square(cell, trial, self.left + j * self.square, y)

    def draw_square(self, cell: CellCosts, trial: TriedToken, x: float, y: float) -> None:
        """Draw a trial: its color, its text, and its marks."""
        color = shade(trial.cost, *self.vectors.limits)
        ink, middle = "white" if is_dark(color) else "black", y + ROW / 2
        place = (x, y, self.square, ROW)
        self.rectangle(*place, facecolor=hexadecimal(color), edgecolor="white", linewidth=0.5)
        if trial.cost == cell.least:
            self.frame(x, y, self.square)
        mark = CHOSEN if trial.chosen else WRITTEN if trial.written else ""
        self.text(x + 0.6 * LETTER, middle, mark, color=ink, fontsize=SIZE - 1.5)
        start = x + 2 * LETTER
        if not self.outputs:
            self.text(start, middle, self.body(trial), color=ink)
        elif not trial.output:
            self.text(start, middle, NOTHING, color=ink, **PARTS[0])
        else:
            self.output((trial.before, trial.tried, trial.after), start, middle, ink)

    def draw_legend(self, y: float) -> None:
        """Draw the legend of marks and letters."""
        self.frame(EDGE, y, 3 * LETTER)
        marks = f"cheapest of its cell    {CHOSEN} the policy's choice"
        if any(trial.written and not trial.chosen for trial in self.trials):
            marks += f"    {WRITTEN} written by the roll-in"
        self.text(EDGE + 4 * LETTER, y + ROW / 2, marks)
        x, y = EDGE, y + 1.5 * ROW
        if self.outputs:
            self.output(("roll-in, ", "token tried, ", "roll-out"), x, y, "black")
        else:
            self.text(x, y, self.vectors.order, color=GREY)

    def frame(self, x: float, y: float, width: float) -> None:
        """Draw the frame that marks the cheapest token."""
        inset = 0.01
        place = (x + inset, y + inset, width - 2 * inset, ROW - 2 * inset)
        self.rectangle(*place, facecolor="none", edgecolor=BEST, linewidth=1.3, zorder=3)

    def output(self, parts: tuple[str, str, str], x: float, y: float, ink: str) -> None:
        """Draw the three parts of an output, each in its style."""
        for part, style in zip(parts, PARTS, strict=True):
            self.text(x, y, part, color=ink, **style)
            x += len(part) * LETTER

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Draw a text that begins at x with its middle at y; dollar signs are not mathematics."""
        style = {"va": "center_baseline", "family": FONT, "fontsize": SIZE, **style}
        drawn = "".join(c if self.font.get_char_index(ord(c)) else MISSING for c in text)
        if drawn:
            self.axes.text(x, y, drawn, parse_math=False, **style)

    def rectangle(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        """Draw a rectangle with its upper left corner at x and y."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((x, y), width, height, **style))


def _heads(cell: CellCosts) -> tuple[str, str, str]:
    """Return the heads of a column."""
    return str(cell.number), _crop(cell.written), _crop(cell.target or "")


def _crop(symbol: str) -> str:
    return crop(symbol, LONGEST_SYMBOL)
