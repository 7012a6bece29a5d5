"""From a search to the cost vectors of one of its sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from freerun.batch import Batch
from freerun.methods import SEARNN
from freerun.methods.searnn import Searched
from freerun.policy import Policy
from freerun.report.cost_vectors.values import FEW, CellCosts, CostVectors, Trial
from freerun.report.cost_vectors.visible import visible, visible_parts
from freerun.report.labels import label
from freerun.rolling import evaluation_mode
from freerun.tasks.base import Codec

GAINS = ("bleu", "bleu_1", "gleu", "chunk_f1")
"""Costs that are 1 less what they are named after."""


def cost_vectors(
    found: Searched,
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
        scores = policy.force(batch.source.select(one), inputs).logits(found.chosen[one])
    symbols = [visible(symbol) for symbol in words.symbols]
    if words.eos is not None:
        symbols[words.eos] = "eos"
    written = found.roll_in.tokens[row, found.roll_in.mask[row]].tolist()
    target = batch.target[row, batch.mask[row]].tolist()
    grid = method.token_choice == "all" and words.actions <= FEW
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


def _tried(found: Searched, row: int) -> list[tuple[int, list[tuple[int, float, list[int]]]]]:
    """The cells of a sentence that were searched, and the tokens, costs and outputs of each."""
    rows, places = found.chosen.nonzero().unbind(1)
    outputs = torch.full_like(found.tokens, -1)
    outputs[found.counts] = torch.arange(int(found.counts.sum()), device=rows.device)
    cells = []
    for cell in (rows == row).nonzero()[:, 0].tolist():
        counts = found.counts[cell]
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
    """Who rolls in and out, what is tried, and how often."""
    said = [f"roll-in {method.roll_in}", f"roll-out {method.roll_out}"]
    if method.cell_choice != "all":
        said.append(f"{method.cells} cells ({method.cell_choice})")
    if method.token_choice != "all":
        said.append(f"{method.tokens} tokens a cell ({method.token_choice})")
    if method.roll_outs > 1:
        said.append(f"costs of {method.roll_outs} roll-outs, of which the first is shown")
    return ", ".join(said).replace("_", " ")
