"""Roll-in: the prefixes that a policy sees while it is trained.

Cell 0 always reads bos. Cell c reads the reference token y*_{c-1}, or what the policy itself wrote
at cell c-1: a token, or a relaxed token through which the gradient flows. What it wrote is found
cell by cell, or by parallel passes (`freerun.roll_in`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.decoding import evaluation_mode
from freerun.decoding.choices import precise
from freerun.policy import Policy

Few = tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]
"""The weights of a few tokens, and which they are; all others weigh nothing."""

Fed = Tensor | Few
"""What n cells read: a token each, weights over all actions each, or the weights of a few."""

Feed = Callable[[Float[Tensor, "n a"], Int[Tensor, "n"], Int[Tensor, "n"]], Fed]
"""From (scores, the rows of the batch and the cells that they are of) to what the cells after read.

Its answer for a cell depends on the scores of that cell, and on no other.
"""


def own_cells(batch: Batch, own: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Where `own` has an effect: not at cell 0, which reads bos, nor past the target."""
    own = own & batch.mask
    own[:, 0] = False
    return own


@dataclass(frozen=True)
class OwnInputs:
    """What own cells read; None where there are none.

    A mixture has the gradient of its weights, if there is one, and of the embeddings.
    """

    rows: Int[Tensor, "n"]
    cells: Int[Tensor, "n"]
    fed: Fed | None

    def among(
        self, policy: Policy, reference: Int[Tensor, "b t"]
    ) -> Int[Tensor, "b t"] | Float[Tensor, "b t e"]:
        """The inputs of all cells: these, and `reference` at the others."""
        if self.fed is None:
            return reference
        return put(policy, reference, (self.rows, self.cells), self.fed)


def put(
    policy: Policy, tokens: Int[Tensor, "*rows"], places: tuple[Tensor, ...], fed: Fed
) -> Int[Tensor, "*rows"] | Float[Tensor, "*rows e"]:
    """Inputs with what is `fed` at some places: tokens, or embeddings where mixtures are fed."""
    if isinstance(fed, Tensor) and not fed.is_floating_point():
        return tokens.index_put(places, fed)
    embedded = policy.embed(tokens)
    return embedded.index_put(places, _mixture(policy, fed).to(embedded.dtype))


def joined(parts: list[Tensor | tuple[Tensor, Tensor]]) -> Fed:
    """What was fed in several parts, one after another."""
    if isinstance(parts[0], Tensor):
        return torch.cat(cast("list[Tensor]", parts))
    weights, tokens = zip(*parts, strict=True)
    return torch.cat(weights), torch.cat(tokens)


def _mixture(policy: Policy, weights: Fed) -> Float[Tensor, "n e"]:
    """The mixture of embeddings; of a few tokens, only theirs are looked up."""
    if isinstance(weights, Tensor):
        return policy.embed(weights)
    few, tokens = weights
    return (few[..., None] * policy.embed(tokens)).sum(-2)


def check_passes(passes: int | None) -> None:
    """Check a number of passes, the last included; None is as many steps as there are cells.

    Raises:
        ValueError: where there are fewer than two.
    """
    if passes is not None and passes < 2:
        raise ValueError(
            f"passes is {passes}; it must be at least 2, as the first reads no own token, or left "
            "out to go cell by cell"
        )


def own_by_passes(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    feed: Feed,
    passes: int,
) -> OwnInputs:
    """What own cells read in the last of so many passes; the others are run here.

    The i-th own cell of a row reads from its pass i + 1 on what it would read if cells were run one
    by one. So no more passes are run than that takes, and none of rows without own cells.

    Args:
        policy: the model.
        batch: the sentences.
        reference: the reference inputs of every cell.
        own: cells that read what the policy wrote; not among them cell 0.
        feed: makes it of the scores at the cell before.
        passes: at least 2, the last included.
    """
    rows, cells = own.nonzero().unbind(1)
    found = OwnInputs(rows, cells, None)
    if len(rows) == 0:
        return found
    counts = own.sum(1)
    run = counts.nonzero()[:, 0]
    source, before = batch.source.select(run), own.roll(-1, 1)[run]
    for _ in range(min(passes - 1, int(counts.max()))):
        trace = policy.force(source, found.among(policy, reference)[run])
        scores = precise(trace.logits(before))
        found = replace(found, fed=feed(scores, rows, cells - 1))
    return found


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
