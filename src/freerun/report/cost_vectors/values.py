"""What every token would cost at every cell of one sentence, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

FEW = 100
"""Up to so many tokens have a row each, where all of them were tried."""
MOST_RANKS = 45
"""Otherwise, the rows that are shown: those of the cheapest tokens of every cell."""


@dataclass(frozen=True)
class Trial:
    """A token that was tried at a cell, and what became of the sentence.

    Attributes:
        symbol: the text of the token.
        cost: what the output costs.
        probability: what the policy gives the token there, among all tokens.
        before: the text of the output before the token; all of it where that cannot be told.
        tried: the text of the token in the output; empty for eos.
        after: the text of the roll-out.
        chosen: whether it is the token that the policy would choose there.
        written: whether it is the token that the roll-in wrote there.
    """

    symbol: str
    cost: float
    probability: float
    before: str
    tried: str
    after: str
    chosen: bool
    written: bool

    @property
    def output(self) -> str:
        """The text of the whole output."""
        return self.before + self.tried + self.after


@dataclass(frozen=True)
class CellCosts:
    """The cost vector of a cell.

    Attributes:
        number: which cell of the sentence it is, from 1.
        written: the token that the roll-in wrote there.
        target: the token of the target at this cell; None beyond its end.
        trials: what was tried: in the order of the vocabulary, or the cheapest first.
    """

    number: int
    written: str
    target: str | None
    trials: tuple[Trial, ...]

    @cached_property
    def least(self) -> float:
        """The least cost."""
        return min(trial.cost for trial in self.trials)

    @property
    def cheapest(self) -> Trial:
        """The most probable of those of least cost."""
        return max(self._of(self.least), key=lambda trial: trial.probability)

    @property
    def dearest(self) -> Trial:
        """The most probable of those of largest cost."""
        largest = max(trial.cost for trial in self.trials)
        return max(self._of(largest), key=lambda trial: trial.probability)

    @property
    def chosen(self) -> Trial | None:
        """The token that the policy would choose; None where it was not tried."""
        return next((trial for trial in self.trials if trial.chosen), None)

    def _of(self, cost: float) -> list[Trial]:
        return [trial for trial in self.trials if trial.cost == cost]


@dataclass(frozen=True)
class CostVectors:
    """The cost vectors of one sentence.

    Attributes:
        name: which sentence it is.
        cost: what the cost is, in words.
        search: who rolled in and out, in words.
        source: the text of the source; None where it is none.
        target: the text of the target.
        roll_in: the text of the roll-in.
        cells: the cells that were searched.
        grid: whether every token was tried at every cell, and they are few enough for a row each.
    """

    name: str
    cost: str
    search: str
    source: str | None
    target: str
    roll_in: str
    cells: tuple[CellCosts, ...]
    grid: bool

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The least and the largest cost of all that was tried."""
        costs = [trial.cost for cell in self.cells for trial in cell.trials]
        return min(costs), max(costs)

    @property
    def lines(self) -> dict[str, str]:
        """What is said above the cost vectors, by what it is."""
        source = {} if self.source is None else {"source": self.source}
        texts = {"target": self.target, "roll-in": self.roll_in}
        return {**source, **texts, "cost": self.cost, "search": self.search}

    @property
    def hidden(self) -> int:
        """How many tokens of a cell `rows` leaves out: the dearest, where there are very many."""
        return max(len(cell.trials) for cell in self.cells) - len(self.rows())

    @property
    def order(self) -> str:
        """What the rows are, where they are no tokens."""
        if self.grid:
            return ""
        more = f"; {self.hidden:,} dearer ones are not shown" if self.hidden else ""
        return f"rows: the tokens of a cell, the cheapest first{more}"

    def rows(self) -> list[tuple[str, list[Trial | None]]]:
        """What is shown: rows of a trial for each cell, under the name of the row.

        In a grid a row is a token; else it is a rank, the first the cheapest of every cell, where
        cells may have fewer than others.
        """
        if self.grid:
            names = [trial.symbol for trial in self.cells[0].trials]
        else:
            most = max(len(cell.trials) for cell in self.cells)
            names = [str(rank) for rank in range(1, min(most, MOST_RANKS) + 1)]
        columns = [cell.trials for cell in self.cells]
        return [
            (name, [trials[i] if i < len(trials) else None for trials in columns])
            for i, name in enumerate(names)
        ]
