"""Roll-in: the prefixes that a policy sees while it is trained.

Cell 0 always reads bos. Cell c reads the reference token y*_{c-1}, or what the policy itself wrote
at cell c-1: a token, or a relaxed token through which the gradient flows. What it wrote is found
cell by cell, or by parallel passes (`freerun.rolling.passes`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.policy import Policy
from freerun.rolling.choices import precise
from freerun.rolling.modes import evaluation_mode
from freerun.rolling.own import Fed, Feed, OwnInputs, joined, own_cells, put
from freerun.rolling.passes import own_by_passes


def mixed(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    choose: Feed,
    *,
    passes: int | None = None,
) -> Int[Tensor, "b t"]:
    """The inputs of every cell: reference tokens, and the policy's own where `own` is true.

    Own tokens come without dropout and without gradient, by `choose(scores, rows, cells)`. Only
    what an own token depends on is run: nothing, where `own` is false throughout. `own` at cell 0
    and at cells past the target has no effect.

    Args:
        policy: the model; writes in evaluation mode.
        batch: the sentences.
        own: the cells that read an own token.
        choose: gives tokens.
        passes: how many passes over whole rows there are, that over these inputs included; None to
            go cell by cell.
    """
    reference = batch.inputs(policy.vocabulary.bos)
    found = _without_gradient(policy, batch, reference, own, choose, passes)
    return found.among(policy, reference)


def learned(policy: Policy, batch: Batch, choose: Feed) -> Int[Tensor, "b t"]:
    """The inputs of every cell where the policy reads only its own tokens, bos aside."""
    return mixed(policy, batch, torch.ones_like(batch.mask), choose)


def relaxed(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    relax: Feed,
    *,
    passes: int | None = None,
    through: bool = True,
) -> Float[Tensor, "n a"]:
    """The scores at all target cells, where cells of `own` read relaxed own tokens.

    `relax(scores, rows, cells)` gives weights over all actions, or of a few; the cells after read
    the mixtures of their embeddings, and the gradient flows through them to the scores (Goyal et
    al. 2017, arXiv 1704.06970, section 3). Scores come in the order of `batch.target[batch.mask]`.

    Args:
        policy: the model.
        batch: the sentences.
        own: the cells that read a relaxed token.
        relax: gives weights.
        passes: how many passes over whole rows there are, all with gradient; None to go cell by
            cell, all cells in one pass.
        through: whether the gradient flows through the weights. If not, they come without dropout
            and without gradient, as own tokens do; that of the embeddings is as ever.
    """
    reference = batch.inputs(policy.vocabulary.bos)
    if not through:
        found = _without_gradient(policy, batch, reference, own, relax, passes)
    elif passes is None:
        return _relaxed_by_steps(policy, batch, reference, own_cells(batch, own), relax)
    else:
        cells = own_cells(batch, own)
        found = own_by_passes(policy, batch, reference, cells, relax, passes)
    trace = policy.force(batch.source, found.among(policy, reference))
    return precise(trace.logits(batch.mask))


@torch.no_grad()
def _without_gradient(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    feed: Feed,
    passes: int | None,
) -> OwnInputs:
    """What own cells read, as a constant: from passes or steps without dropout."""
    own = own_cells(batch, own)
    with evaluation_mode(policy):
        if passes is not None:
            return own_by_passes(policy, batch, reference, own, feed, passes)
        return _own_by_steps(policy, batch, reference, own, feed)


def _own_by_steps(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    feed: Feed,
) -> OwnInputs:
    """What own cells read. Each row is run up to the cell before its last own cell."""
    cells, rows = own.T.nonzero().unbind(1)
    if len(rows) == 0:
        return OwnInputs(rows, cells, None)
    counts = (own * torch.arange(own.shape[1], device=own.device)).amax(1)
    steps = _walk(policy, batch, reference, counts, own, feed)
    fed = [fed for *_, fed in steps if fed is not None]
    return OwnInputs(rows, cells, joined(fed))


def _relaxed_by_steps(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    relax: Feed,
) -> Float[Tensor, "n a"]:
    """The scores at all target cells, of one pass that goes cell by cell."""
    places, scores = [], []
    for cell, rows, here, _ in _walk(policy, batch, reference, batch.lengths, own, relax):
        places.append(rows * own.shape[1] + cell)
        scores.append(here)
    return torch.cat(scores)[torch.cat(places).argsort()]


Step = tuple[int, Int[Tensor, "n"], Float[Tensor, "n a"], Fed | None]
"""A cell, the rows that were stepped through it, their scores, and what own cells after it read."""


def _walk(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    counts: Int[Tensor, "b"],
    own: Bool[Tensor, "b t"],
    feed: Feed,
) -> Iterator[Step]:
    """Step every row of the batch through its first `counts` cells, all rows together.

    Rows are sorted, and leave when done. What is fed comes in the order of the batch.
    """
    columns = list(reference.unbind(1))
    readers = own.T.nonzero()[:, 1].split(own.sum(0).tolist())
    rows = counts.argsort(descending=True, stable=True)
    place = rows.argsort()
    remaining = [count for count in counts[rows].tolist() if count > 0]
    rows = rows[: len(remaining)]
    state = policy.start(batch.source.select(rows))
    for cell in range(remaining[0]):
        active = sum(count > cell for count in remaining)
        if active < len(rows):
            first = torch.arange(active, device=rows.device)
            rows, state, remaining = rows[first], state.select(first), remaining[:active]
        scores, state = policy.step(state, columns[cell][rows])
        scores, fed = precise(scores), None
        after = cell + 1
        if after < len(columns) and len(readers[after]):
            at = readers[after]
            fed = feed(scores[place[at]], at, torch.full_like(at, cell))
            columns[after] = put(policy, columns[after], (at,), fed)
        yield cell, rows, scores, fed
