"""The cost vectors of one sentence of a search."""

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
"""The maximum number of tokens that have a row each, if all of them were tried."""
MOST_RANKS = 45
"""The maximum number of rows otherwise, for the cheapest tokens of every cell."""


@dataclass(frozen=True)
class TriedToken:
    """A token that was tried at a cell, and the output that it led to.

    Attributes:
        symbol: the text of the token.
        cost: the cost of the output.
        probability: the probability of the token at the cell, by the policy.
        before: the text of the output before the token; all of the text if it cannot be split.
        tried: the text of the token in the output; empty for eos.
        after: the text of the roll-out.
        chosen: whether the policy would choose the token there.
        written: whether the roll-in wrote the token there.
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
        number: the number of the cell in the sentence, from 1.
        written: the token that the roll-in wrote there.
        target: the token of the target at this cell; None beyond its end.
        trials: the tokens that were tried: in the order of the vocabulary, or the cheapest first.
    """

    number: int
    written: str
    target: str | None
    trials: tuple[TriedToken, ...]

    @cached_property
    def least(self) -> float:
        """The lowest cost."""
        return min(trial.cost for trial in self.trials)

    @property
    def cheapest(self) -> TriedToken:
        """The trial with the lowest cost; of several, the most probable one."""
        return max(self._of(self.least), key=lambda trial: trial.probability)

    @property
    def dearest(self) -> TriedToken:
        """The trial with the highest cost; of several, the most probable one."""
        largest = max(trial.cost for trial in self.trials)
        return max(self._of(largest), key=lambda trial: trial.probability)

    @property
    def chosen(self) -> TriedToken | None:
        """The token that the policy would choose; None if it was not tried."""
        return next((trial for trial in self.trials if trial.chosen), None)

    def _of(self, cost: float) -> list[TriedToken]:
        return [trial for trial in self.trials if trial.cost == cost]


@dataclass(frozen=True)
class CostVectors:
    """The cost vectors of one sentence.

    Attributes:
        name: the name of the sentence.
        cost: the cost, in words.
        search: the roll-in and the roll-out, in words.
        source: the text of the source; None if it is not text.
        target: the text of the target.
        roll_in: the text of the roll-in.
        cells: the cells that were searched.
        grid: whether every token was tried at every cell, and there are few enough for a row each.
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
        """The lowest and the highest cost."""
        costs = [trial.cost for cell in self.cells for trial in cell.trials]
        return min(costs), max(costs)

    @property
    def lines(self) -> dict[str, str]:
        """The texts shown above the cost vectors, by their labels."""
        source = {} if self.source is None else {"source": self.source}
        texts = {"target": self.target, "roll-in": self.roll_in}
        return {**source, **texts, "cost": self.cost, "search": self.search}

    @property
    def hidden(self) -> int:
        """The maximum number of tokens of a cell, all expensive ones, that `rows` leaves out."""
        return max(len(cell.trials) for cell in self.cells) - len(self.rows())

    @property
    def order(self) -> str:
        """A description of the rows, if they are ranks instead of tokens."""
        if self.grid:
            return ""
        more = f"; {self.hidden:,} dearer ones are not shown" if self.hidden else ""
        return f"rows: the tokens of a cell, the cheapest first{more}"

    def rows(self) -> list[tuple[str, list[TriedToken | None]]]:
        """Return the rows that are shown: their names, and a trial for each cell.

        In a grid a row is a token; otherwise it is a rank, and the first row contains the cheapest
        token of every cell. A cell with fewer tokens than others has None in the last rows.
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
"""Costs that are 1 minus the metric they are named after."""


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
    """Collect the cost vectors of one sentence of a batch that was searched.

    Args:
        found: the result of `method.search(policy, batch, clock)`.
        policy: the policy; its probabilities are computed without dropout.
        codec: the codec, which converts tokens to text.
        batch: the sentences.
        method: the search.
        row: the row of the sentence in the batch.
        name: the name of the sentence.
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
    tried = zip(_list_trials(found, row), scores.double().softmax(-1).tolist(), strict=True)
    for (place, outputs), probabilities in tried:
        choice = max(range(words.actions), key=probabilities.__getitem__)
        trials = [
            TriedToken(
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


def _list_trials(
    found: SearchResult, row: int
) -> list[tuple[int, list[tuple[int, float, list[int]]]]]:
    """Return the searched cells of a sentence, and the tokens, costs and outputs of each."""
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
    """Return the text of an output in three parts: before a cell, at it, and after it."""
    before, so_far, whole = text(tokens[:cell]), text(tokens[: cell + 1]), text(tokens)
    if so_far.startswith(before) and whole.startswith(so_far):
        return visible_parts(before, so_far[len(before) :], whole[len(so_far) :])
    return visible(whole), "", ""  # the token changed the text of those before it


def _cost_name(method: SEARNN) -> str:
    cost = method.cost
    if not isinstance(cost, str):
        return str(getattr(cost, "name", getattr(cost, "__name__", type(cost).__name__)))
    return f"1 − {label(cost)}" if cost in GAINS else label(cost)


def _search_name(method: SEARNN) -> str:
    """Describe the roll-in, the roll-out and the tokens tried, in words."""
    said = [f"roll-in {method.chosen_roll_in.name}", f"roll-out {method.roll_out.name}"]
    cells, tokens = method.candidates.cells, method.candidates.tokens
    if cells is not None:
        said.append(f"{cells} cells")
    if not isinstance(tokens, AllTokens):
        said.append(f"{tokens.tokens} tokens a cell ({tokens.name})")
    return ", ".join(said).replace("_", " ")
