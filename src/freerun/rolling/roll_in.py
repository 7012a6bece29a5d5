"""Roll-in: the prefixes that a policy sees while it is trained.

Cell 0 always reads bos. Cell c reads the reference token y*_{c-1}, or what the policy itself wrote
at cell c-1: a token, or a relaxed token through which the gradient flows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.policy import Policy
from freerun.rolling.choices import precise
from freerun.rolling.modes import evaluation_mode

Choose = Callable[[Float[Tensor, "n a"], Int[Tensor, "n"], int], Tensor]
"""From (scores, the rows of the batch that they are of, the cell) to tokens."""

Few = tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]
"""The weights of a few tokens, and which they are; all others weigh nothing."""

Relax = Callable[[Float[Tensor, "n a"], Int[Tensor, "n"], int], Tensor | Few]
"""From (scores, the rows of the batch that they are of, the cell) to weights over tokens."""


@torch.no_grad()
def mixed(
    policy: Policy, batch: Batch, own: Bool[Tensor, "b t"], choose: Choose
) -> Int[Tensor, "b t"]:
    """The inputs of every cell: reference tokens, and the policy's own where `own` is true.

    Own tokens come from passes without dropout and without gradient, by `choose(scores, rows,
    cell)`. Only what an own token depends on is run: nothing, where `own` is false throughout.
    `own` at cell 0 and at cells past the target has no effect.
    """
    inputs = batch.inputs(policy.vocabulary.bos)
    own = own & batch.mask
    cells = torch.arange(own.shape[1], device=own.device)
    # A row must be run up to the cell before the last that reads an own token.
    counts = (own * cells).amax(1)
    if not bool(counts.any()):
        return inputs

    def feed(cell: int, rows: Int[Tensor, "n"], scores: Tensor | None) -> Tensor:
        return inputs[rows, cell]

    with evaluation_mode(policy):
        for cell, rows, scores in _walk(policy, batch, counts, feed):
            chosen = choose(scores, rows, cell)
            after = cell + 1
            inputs[rows, after] = torch.where(own[rows, after], chosen, inputs[rows, after])
    return inputs


def learned(policy: Policy, batch: Batch, choose: Choose) -> Int[Tensor, "b t"]:
    """The inputs of every cell where the policy reads only its own tokens, bos aside."""
    return mixed(policy, batch, torch.ones_like(batch.mask), choose)


def relaxed(
    policy: Policy, batch: Batch, own: Bool[Tensor, "b t"], relax: Relax
) -> Float[Tensor, "n a"]:
    """The scores at all target cells, where cells of `own` read relaxed own tokens.

    `relax(scores, rows, cell)` gives weights over all actions, or of a few; the cell after reads
    the mixture of their embeddings, and the gradient flows through it to the scores (Goyal et al.
    2017, arXiv 1704.06970, section 3). Scores come in the order of `batch.target[batch.mask]`.
    """
    reference = batch.inputs(policy.vocabulary.bos)

    def feed(cell: int, rows: Int[Tensor, "n"], scores: Tensor | None) -> Tensor:
        embedded = policy.embed(reference[rows, cell])
        if scores is None:
            return embedded
        mixture = _mixture(policy, relax(scores, rows, cell - 1))
        return torch.where(own[rows, cell, None], mixture.to(embedded.dtype), embedded)

    length = batch.mask.shape[1]
    places, scores = [], []
    for cell, rows, here in _walk(policy, batch, batch.lengths, feed):
        places.append(rows * length + cell)
        scores.append(here)
    return torch.cat(scores)[torch.cat(places).argsort()]


def _mixture(policy: Policy, weights: Tensor | Few) -> Float[Tensor, "n e"]:
    """The mixture of embeddings; of a few tokens, only theirs are looked up."""
    if isinstance(weights, Tensor):
        return policy.embed(weights)
    few, tokens = weights
    return (few[..., None] * policy.embed(tokens)).sum(-2)


def _walk(
    policy: Policy,
    batch: Batch,
    counts: Int[Tensor, "b"],
    feed: Callable[[int, Int[Tensor, "n"], Tensor | None], Tensor],
) -> Iterator[tuple[int, Int[Tensor, "n"], Float[Tensor, "n a"]]]:
    """Step every row of the batch through its first `counts` cells, all rows together.

    `feed(cell, rows, scores)` gives the inputs at a cell from the scores at the cell before (None
    at cell 0). Gives (cell, rows, scores) for each cell. Rows are sorted, and leave when done.
    """
    rows = counts.argsort(descending=True, stable=True)
    rows = rows[counts[rows] > 0]
    state = policy.start(batch.source.select(rows))
    scores: Tensor | None = None
    remaining = counts[rows].tolist()
    for cell in range(remaining[0]):
        active = sum(count > cell for count in remaining)
        if active < len(rows):
            first = torch.arange(active, device=rows.device)
            rows, state, remaining = rows[first], state.select(first), remaining[:active]
            scores = None if scores is None else scores[first]
        scores, state = policy.step(state, feed(cell, rows, scores))
        scores = precise(scores)
        yield cell, rows, scores
