"""From a search to the cost vectors of one of its sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from freerun.batch import Batch
from freerun.data import Codec
from freerun.methods import SEARNN
from freerun.methods.searnn import AllTokens, SearchResult
from freerun.policy import Policy, evaluation_mode
from freerun.report.cost_vectors.text import visible, visible_parts
from freerun.report.labels import label

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


GAINS = ("bleu", "bleu_1", "gleu", "chunk_f1")
"""Costs that are 1 less what they are named after."""


def cost_vectors(
    found: SearchResult,
    policy: Policy,
    codec: Codec,
    batch: Batch,
    method: SEARNN,
    *,
    row: int = 0,
    name: str = "",
) -> CostVectors:
    """The cost vectors of one sentence of a batch that was searched.

    Args:
        found: what `method.search(policy, batch, clock)` gave.
        policy: the model; its probabilities are those without dropout.
        codec: makes texts of tokens.
        batch: the sentences.
        method: the search.
        row: which sentence.
        name: what to call it.
    """
    words, one = policy.vocabulary, torch.tensor([row], device=batch.ids.device)
    with torch.no_grad(), evaluation_mode(policy):
        inputs = found.roll_in.inputs(words.bos)[one]
        scores = policy.force(batch.source.select(one), inputs).logits(found.cells[one])
    symbols = [visible(symbol) for symbol in words.symbols]
    if words.eos is not None:
        symbols[words.eos] = "eos"
    written = found.roll_in.tokens[row, found.roll_in.mask[row]].tolist()
    target = batch.target[row, batch.mask[row]].tolist()
    grid = isinstance(method.candidates.tokens, AllTokens) and words.actions <= FEW
    cells = []
    tried = zip(_tried(found, row), scores.double().softmax(-1).tolist(), strict=True)
    for (place, outputs), probabilities in tried:
        choice = max(range(words.actions), key=probabilities.__getitem__)
        trials = [
            Trial(
                symbols[token],
                cost,
                probabilities[token],
                *_parts(codec.text, output, place),
                chosen=token == choice,
                written=token == written[place],
            )
            for token, cost, output in outputs
        ]
        if not grid:
            trials.sort(key=lambda trial: (trial.cost, -trial.probability))
        wanted = symbols[target[place]] if place < len(target) else None
        cells.append(CellCosts(place + 1, symbols[written[place]], wanted, tuple(trials)))
    source = codec.source_text(batch.source.values[row, batch.source.mask[row]])
    return CostVectors(
        name=name,
        cost=_cost_name(method),
        search=_search_name(method),
        source=None if source is None else visible(source),
        target=visible(codec.text(target)),
        roll_in=visible(codec.text(written)),
        cells=tuple(cells),
        grid=grid,
    )


def _tried(found: SearchResult, row: int) -> list[tuple[int, list[tuple[int, float, list[int]]]]]:
    """The cells of a sentence that were searched, and the tokens, costs and outputs of each."""
    rows, places = found.cells.nonzero().unbind(1)
    outputs = torch.full_like(found.tokens, -1)
    outputs[found.mask] = torch.arange(int(found.mask.sum()), device=rows.device)
    cells = []
    for cell in (rows == row).nonzero()[:, 0].tolist():
        counts = found.mask[cell]
        numbers = outputs[cell, counts]
        written = zip(found.outputs.tokens[numbers], found.outputs.lengths[numbers], strict=True)
        texts = [tokens[:length].tolist() for tokens, length in written]
        trials = found.tokens[cell, counts].tolist(), found.costs[cell, counts].tolist(), texts
        cells.append((int(places[cell]), list(zip(*trials, strict=True))))
    return cells


def _parts(
    text: Callable[[Sequence[int]], str], tokens: Sequence[int], cell: int
) -> tuple[str, str, str]:
    """The text of an output: before a cell, at it, and after it."""
    before, so_far, whole = text(tokens[:cell]), text(tokens[: cell + 1]), text(tokens)
    if so_far.startswith(before) and whole.startswith(so_far):
        return visible_parts(before, so_far[len(before) :], whole[len(so_far) :])
    return visible(whole), "", ""  # the token changed how those before it are written


def _cost_name(method: SEARNN) -> str:
    cost = method.cost
    if not isinstance(cost, str):
        return str(getattr(cost, "name", getattr(cost, "__name__", type(cost).__name__)))
    return f"1 − {label(cost)}" if cost in GAINS else label(cost)


def _search_name(method: SEARNN) -> str:
    """Say who rolls in and out, and what is tried."""
    said = [f"roll-in {method.roll_in.name}", f"roll-out {method.roll_out.name}"]
    cells, tokens = method.candidates.cells, method.candidates.tokens
    if cells is not None:
        said.append(f"{cells} cells")
    if not isinstance(tokens, AllTokens):
        said.append(f"{tokens.tokens} tokens a cell ({tokens.name})")
    return ", ".join(said).replace("_", " ")
