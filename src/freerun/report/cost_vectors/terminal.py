"""Cost vectors in the terminal: blocks of color, legible without color too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group
from rich.measure import Measurement
from rich.style import Style
from rich.table import Table
from rich.text import Text

from freerun.report.cost_vectors.text import NOTHING, crop, hexadecimal, is_dark, shade, short
from freerun.report.cost_vectors.values import CellCosts, CostVectors, TriedToken

CHEAPEST, CHOSEN, WRITTEN = "*", "›", "="
SYMBOL_WIDTH = 12
"""The maximum width of a token in a square."""
ENDLESS = 1_000_000


@dataclass(frozen=True)
class HeatMap:
    """The cost vectors of a sentence as a heat map, in as many blocks as fit the width.

    Columns are cells; rows are tokens or, if there are too many, the cheapest tokens of every cell.
    The darker a square, the higher the cost.

    Args:
        vectors: the cost vectors to show.
    """

    vectors: CostVectors

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the blocks and the legend."""
        cells, rows = self.vectors.cells, self.vectors.rows()
        trials = [trial for _, row in rows for trial in row if trial is not None]
        body = self._body(trials)
        wide = max(cell_len(body(trial)) for trial in trials) + 2
        names = max(cell_len(name) for name in ("roll-in", *(name for name, _ in rows))) + 1
        most = max(1, (options.max_width - names) // wide)
        blocks = -(-len(cells) // most)
        each = -(-len(cells) // blocks)
        for start in range(0, len(cells), each):
            part = slice(start, start + each)
            heads = (
                ("cell", [str(cell.number) for cell in cells[part]]),
                ("roll-in", [cell.written for cell in cells[part]]),
                ("target", [cell.target or "" for cell in cells[part]]),
            )
            for name, symbols in heads:
                line = Text(set_cell_size(name, names), style="dim")
                line.append("".join(_center(symbol, wide) for symbol in symbols), "not dim")
                yield line
            for name, row in rows:
                line = Text(_right(name, names - 1) + " ")
                for cell, trial in zip(cells[part], row[part], strict=True):
                    line.append_text(self._square(cell, trial, body, wide))
                yield line
            yield Text()
        yield from self._legend(rows)

    def _body(self, trials: list[TriedToken]) -> Callable[[TriedToken], str]:
        """Return a function that formats a trial: its cost, and its token if rows are ranks."""
        costs = max(len(short(trial.cost)) for trial in trials)
        if self.vectors.grid:
            return lambda trial: short(trial.cost).rjust(costs)
        wide = min(max(cell_len(trial.symbol) for trial in trials), SYMBOL_WIDTH)
        return lambda trial: f"{_left(trial.symbol, wide)} {short(trial.cost):>{costs}}"

    def _square(
        self,
        cell: CellCosts,
        trial: TriedToken | None,
        body: Callable[[TriedToken], str],
        wide: int,
    ) -> Text:
        if trial is None:
            return Text(" " * wide)
        color = shade(trial.cost, *self.vectors.limits)
        cheapest = trial.cost == cell.least
        left = CHOSEN if trial.chosen else WRITTEN if trial.written else " "
        right = CHEAPEST if cheapest else " "
        text = "#FFFFFF" if is_dark(color) else "#000000"
        style = Style(color=text, bgcolor=hexadecimal(color), bold=cheapest or trial.chosen)
        return Text(left + _right(body(trial), wide - 2) + right, style)

    def _legend(self, rows: list[tuple[str, list[TriedToken | None]]]) -> Iterator[Text]:
        marks = f"{CHEAPEST} cheapest of its cell   {CHOSEN} the policy's choice"
        shown = [trial for _, row in rows for trial in row if trial is not None]
        if any(trial.written and not trial.chosen for trial in shown):
            marks += f"   {WRITTEN} written by the roll-in"
        yield Text(marks, style="dim")
        if self.vectors.order:
            yield Text(self.vectors.order, style="dim")


@dataclass(frozen=True)
class Outcomes:
    """A table of the cheapest token, the policy's choice and the most expensive token of each cell.

    Each comes with its output; if that is too long for the line, only the part around the token is
    shown.

    Args:
        vectors: the cost vectors to show.
    """

    vectors: CostVectors

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """Yield the table."""
        table, endless = self._table(None), options.update(max_width=ENDLESS)
        if Measurement.get(console, endless, table).maximum > options.max_width:
            table = self._table((options.max_width - 14) // 3)
        yield table

    def _table(self, width: int | None) -> Table:
        """Build the table, with columns of a maximum width."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("cell", justify="right", min_width=4)
        for name in ("cheapest", "policy's choice", "dearest"):
            table.add_column(name, no_wrap=True)
        for cell in self.vectors.cells:
            best, chosen, worst = cell.cheapest, cell.chosen, cell.dearest
            own = Text("not tried" if chosen is None else "the same", "dim")
            if chosen is not None and chosen is not best:
                own = _entry(chosen, width)
            table.add_row(str(cell.number), _entry(best, width), own, _entry(worst, width))
        return table


def heading(vectors: CostVectors) -> Group:
    """Return the name of the sentence, its texts, and the search."""
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    for name, words in vectors.lines.items():
        lines.add_row(Text(name, "dim"), Text(words))
    return Group(Text(vectors.name, style="bold"), lines)


def outputs_of_cell(vectors: CostVectors, number: int) -> Group:
    """Return a table of the tokens tried at a cell: cost, probability, output; cheapest first.

    Raises:
        ValueError: if that cell was not searched.
    """
    cells = {cell.number: cell for cell in vectors.cells}
    if number not in cells:
        every = len(cells) == max(cells)
        numbers = f"1 to {len(cells)}" if every else ", ".join(map(str, cells))
        raise ValueError(f"the cells that were searched are {numbers}")
    cell = cells[number]
    title = f"cell {number}: the roll-in wrote {cell.written}; "
    title += "the target has ended" if cell.target is None else f"the target has {cell.target}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("token", "cost", "probability"):
        table.add_column(name, justify="left" if name == "token" else "right", no_wrap=True)
    table.add_column("output", overflow="fold")
    for trial in sorted(cell.trials, key=lambda trial: (trial.cost, -trial.probability)):
        style = "bold" if trial.chosen else ""
        mark = f" {CHOSEN}" if trial.chosen else f" {WRITTEN}" if trial.written else ""
        figures = f"{trial.cost:.3f}", f"{trial.probability:.3f}"
        table.add_row(Text(f"{trial.symbol}{mark}"), *figures, _output(trial), style=style)
    return Group(Text(title), table)


def _entry(trial: TriedToken, width: int | None) -> Text:
    """Format a trial as in ".27 m → 4 may 2128", within a number of columns."""
    entry = Text(f"{short(trial.cost)} {crop(trial.symbol, SYMBOL_WIDTH)} → ")
    output = _output(trial)
    return entry + (output if width is None else _excerpt(output, trial, width - entry.cell_len))


def _output(trial: TriedToken) -> Text:
    """Format an output; the token that was tried is underlined."""
    if not trial.output:
        return Text(NOTHING, "dim")
    return Text.assemble((trial.before, "dim"), (trial.tried, "underline"), trial.after)


def _excerpt(output: Text, trial: TriedToken, width: int) -> Text:
    """Cut an output to a number of columns around the token that was tried."""
    if output.cell_len <= width:
        return output
    # The text after the token says more than that before it, so it gets two thirds.
    start = max(0, min(len(trial.before) - width // 3, len(output) - width))
    excerpt = output[start:]
    if start:
        excerpt = Text("…", "dim") + excerpt[1:]
    excerpt.truncate(max(width, 1), overflow="ellipsis")
    return excerpt


def _left(text: str, wide: int) -> str:
    return set_cell_size(crop(text, wide), wide)


def _right(text: str, wide: int) -> str:
    return " " * (wide - cell_len(text)) + text


def _center(symbol: str, wide: int) -> str:
    """Center a symbol in a number of columns, one of them free."""
    shown = crop(symbol, wide - 1)
    left = (wide - cell_len(shown) + 1) // 2
    return set_cell_size(" " * left + shown, wide)
