"""Roll-in: the prefixes that a policy sees while it is trained.

Cell 0 always reads bos. Cell c reads the reference token y*_{c-1}, or the *own* token that the
policy wrote at cell c-1, which may be relaxed: a mixture of embeddings with a gradient. Own tokens
are found cell by cell, or by parallel passes over whole rows (Mihaylova and Martins 2019, arXiv
1906.07651; Duckworth et al. 2019, arXiv 1906.04331).

Where the policy may write every token, including eos, see `freerun.trajectories`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from freerun.batch import Batch
from freerun.chunks import SumLoss, needs_chunks
from freerun.decoding import promote_scores
from freerun.policy import Policy, State, Trace, evaluation_mode

SparseWeights = tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]
"""The weights of k tokens, and the tokens; all others have weight 0."""

CellInputs = Tensor | SparseWeights
"""What n cells read: tokens [n], weights over all actions [n, a], or sparse weights."""

InputFunction = Callable[[Float[Tensor, "n a"], Int[Tensor, "n"], Int[Tensor, "n"]], CellInputs]
"""A function from (scores, their rows of the batch, their cells) to what the cells after them read.

What it returns for a cell must depend on the scores of that cell alone.
"""


def _drop_ineffective(batch: Batch, own: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Return `own` without cell 0, which reads bos, and cells past the target."""
    own = own & batch.mask  # a new tensor, which may be changed
    own[:, 0] = False
    return own


@dataclass(frozen=True)
class OwnInputs:
    """What own cells read: tokens, or mixtures of embeddings.

    None if there are no own cells, or not known yet. A mixture has the gradient of its weights, if
    they have one, and of the embeddings.
    """

    rows: Int[Tensor, "n"]
    cells: Int[Tensor, "n"]
    inputs: Int[Tensor, "n"] | Float[Tensor, "n e"] | None

    def merge(
        self, policy: Policy, reference: Int[Tensor, "b t"]
    ) -> Int[Tensor, "b t"] | Float[Tensor, "b t e"]:
        """Return the inputs of all cells: these, and `reference` at the others."""
        if self.inputs is None:
            return reference
        return _replace_inputs(policy, reference, (self.rows, self.cells), self.inputs)


def _replace_inputs(
    policy: Policy,
    tokens: Int[Tensor, "*rows"],
    places: tuple[Tensor, ...],
    inputs: Int[Tensor, "n"] | Float[Tensor, "n e"],
) -> Int[Tensor, "*rows"] | Float[Tensor, "*rows e"]:
    """Return `tokens` with `inputs` at some places; all are embedded if these are mixtures."""
    if not inputs.is_floating_point():
        return tokens.index_put(places, inputs)
    embedded = policy.embed(tokens)
    return embedded.index_put(places, inputs.to(embedded.dtype))


def _concatenate(parts: list[Tensor | tuple[Tensor, Tensor]]) -> CellInputs:
    """Return the inputs of several parts as one."""
    if isinstance(parts[0], Tensor):
        return torch.cat(cast("list[Tensor]", parts))
    weights, tokens = zip(*parts, strict=True)
    return torch.cat(weights), torch.cat(tokens)


def _mix_embeddings(policy: Policy, inputs: CellInputs) -> Int[Tensor, "n"] | Float[Tensor, "n e"]:
    """Return tokens as they are, and mixtures of embeddings for weights.

    With sparse weights, only the embeddings of k tokens are looked up.
    """
    if isinstance(inputs, Tensor):
        return policy.embed(inputs) if inputs.is_floating_point() else inputs
    sparse, tokens = inputs
    return (sparse[..., None] * policy.embed(tokens)).sum(-2)


def check_passes(passes: int | None) -> None:
    """Check a number of passes, including the last one; None means cell by cell.

    Raises:
        ValueError: if there are fewer than two.
    """
    if passes is not None and passes < 2:
        raise ValueError(
            f"passes is {passes}; it must be at least 2, as the first reads no own token, or left "
            "out to go cell by cell"
        )


def _run_passes(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    make_inputs: InputFunction,
    passes: int,
    through: bool,
) -> OwnInputs:
    """Return what own cells read in the last pass; all passes before it are run here.

    From pass i + 1 on, the i-th own cell of a row reads what it would read cell by cell. So a row
    needs no more passes than it has own cells, and one more; rows without any are not run.

    Args:
        policy: the model.
        batch: the sentences.
        reference: the reference inputs of every cell.
        own: cells that read what the policy wrote, without cell 0.
        make_inputs: makes their inputs from the scores at the cell before.
        passes: the number of passes, including the last one, at least 2.
        through: whether the gradient flows through these passes. If not, they are run without
            dropout, and mixtures only have the gradient of their embeddings.
    """
    rows, cells = own.nonzero().unbind(1)
    found = OwnInputs(rows, cells, None)
    if len(rows) == 0:
        return found
    counts = own.sum(1)
    run = counts.nonzero()[:, 0]
    # No own cell is cell 0, so rolling left marks the cells that own cells follow.
    source, before = batch.source.select(run), own.roll(-1, 1)[run]

    def mix(scores: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
        scores = promote_scores(scores if through else scores.detach())
        return _mix_embeddings(policy, make_inputs(scores, rows, cells))

    for _ in range(min(passes - 1, int(counts.max()))):
        with nullcontext() if through else evaluation_mode(policy):
            with nullcontext() if through else torch.no_grad():
                trace = policy.force(source, found.merge(policy, reference)[run])
            found = replace(found, inputs=trace.map_scores(before, mix, rows, cells - 1))
    return found


@torch.no_grad()
def roll_in(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    choose: InputFunction,
    *,
    passes: int | None = None,
) -> Int[Tensor, "b t"]:
    """Return the inputs of every cell: reference tokens, and own tokens where `own` is true.

    Own tokens are written without dropout and without gradient. The model runs only as far as own
    tokens need it, and not at all if `own` is false everywhere. `own` has no effect at cell 0 and
    past the target.

    Args:
        policy: the model; writes in evaluation mode.
        batch: the sentences.
        own: the cells that read an own token.
        choose: chooses tokens from scores.
        passes: the number of passes over whole rows, including the one that reads these inputs;
            None to go cell by cell.
    """
    reference = batch.inputs(policy.vocabulary.bos)
    found = _write_own(policy, batch, reference, own, choose, passes)
    return found.merge(policy, reference)


def score_relaxed(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    relax: InputFunction,
    *,
    passes: int | None = None,
    through: bool = True,
) -> Float[Tensor, "n a"]:
    """Return the scores at all target cells, where cells of `own` read relaxed own tokens.

    Args and gradients are those of `sum_relaxed`.

    Returns:
        Scores in the order of `batch.target[batch.mask]`.
    """
    read = _read_relaxed(policy, batch, own, relax, passes, through)
    return read if isinstance(read, Tensor) else promote_scores(read.logits(batch.mask))


def sum_relaxed(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    relax: InputFunction,
    loss: SumLoss,
    *more: Shaped[Tensor, "n ..."],
    passes: int | None = None,
    through: bool = True,
) -> Float[Tensor, ""]:
    """Compute a sum over all target cells, where cells of `own` read relaxed own tokens.

    If there are many scores, those of a few cells at a time are in memory, with their weights.

    These cells read mixtures of embeddings by the weights that `relax` returns, and the gradient
    flows through them to the scores before (Goyal et al. 2017, arXiv 1704.06970, section 3).

    Args:
        policy: the model.
        batch: the sentences.
        own: the cells that read a relaxed token.
        relax: makes weights over all actions, or sparse weights, of scores.
        loss: a function of the scores of any target cells, and of `more` of the same cells.
        more: what else the loss needs of each target cell, in the order of
            `batch.target[batch.mask]`; gets no gradient.
        passes: the number of passes over whole rows, all with gradient; None to go cell by cell, in
            a single pass.
        through: whether the gradient flows through the weights. If not, they are computed without
            dropout and gradient, as own tokens are; the embeddings have their gradient either way.
    """
    count, actions = int(batch.mask.sum()), policy.vocabulary.actions
    if through and passes is None and needs_chunks(count, actions):
        return _sum_by_steps(policy, batch, _drop_ineffective(batch, own), relax, loss, more)
    read = _read_relaxed(policy, batch, own, relax, passes, through)
    return loss(read, *more) if isinstance(read, Tensor) else read.sum_loss(batch.mask, loss, *more)


def _read_relaxed(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    relax: InputFunction,
    passes: int | None,
    through: bool,
) -> Trace | Float[Tensor, "n a"]:
    """Return a trace of rows with relaxed tokens; scores if they were computed cell by cell."""
    reference = batch.inputs(policy.vocabulary.bos)
    if not through:
        found = _write_own(policy, batch, reference, own, relax, passes)
    elif passes is None:
        return _score_by_steps(policy, batch, reference, _drop_ineffective(batch, own), relax)
    else:
        cells = _drop_ineffective(batch, own)
        found = _run_passes(policy, batch, reference, cells, relax, passes, True)
    return policy.force(batch.source, found.merge(policy, reference))


def _write_own(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    make_inputs: InputFunction,
    passes: int | None,
) -> OwnInputs:
    """Return what own cells read, from passes or steps without gradient and dropout."""
    own = _drop_ineffective(batch, own)
    if passes is not None:
        return _run_passes(policy, batch, reference, own, make_inputs, passes, False)
    return _run_steps(policy, batch, reference, own, make_inputs)


def _run_steps(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    make_inputs: InputFunction,
) -> OwnInputs:
    """Return what own cells read. Each row runs up to the cell before its last own cell.

    Mixtures only have the gradient of their embeddings.
    """
    # By cell, then by row: the order in which steps return the inputs of own cells.
    cells, rows = own.T.nonzero().unbind(1)
    if len(rows) == 0:
        return OwnInputs(rows, cells, None)
    counts = (own * torch.arange(own.shape[1], device=own.device)).amax(1)
    with torch.no_grad(), evaluation_mode(policy):
        steps = _step_rows(policy, batch, reference, counts, own, make_inputs)
        parts = [inputs for *_, inputs in steps if inputs is not None]
    return OwnInputs(rows, cells, _mix_embeddings(policy, _concatenate(parts)))


def _score_by_steps(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    relax: InputFunction,
) -> Float[Tensor, "n a"]:
    """Return the scores at all target cells, from one pass that goes cell by cell."""
    places, scores = [], []
    for cell, rows, here, _ in _step_rows(policy, batch, reference, batch.lengths, own, relax):
        places.append(rows * own.shape[1] + cell)
        scores.append(here)
    # Steps go cell by cell; the targets of a batch are row by row.
    return torch.cat(scores)[torch.cat(places).argsort()]


def _sum_by_steps(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    relax: InputFunction,
    loss: SumLoss,
    more: tuple[Shaped[Tensor, "n ..."], ...],
) -> Float[Tensor, ""]:
    """Compute a sum over all target cells, from one pass that goes cell by cell.

    Only states are stored; the backward pass computes the scores of each cell again.
    """
    reference = batch.inputs(policy.vocabulary.bos)
    numbers = batch.mask.flatten().cumsum(0).view(batch.mask.shape) - 1

    def reduce(scores: Tensor, rows: Tensor, cell: int) -> Tensor:
        return loss(scores, *(each[numbers[rows, cell]] for each in more))

    steps = _step_rows(policy, batch, reference, batch.lengths, own, relax, reduce)
    return torch.stack([part for _, _, part, _ in steps]).sum()


RollInStep = tuple[int, Int[Tensor, "n"], Float[Tensor, "..."], CellInputs | None]
"""A cell, the rows that were stepped through it, their scores or what was kept of them, and what
own cells after it read."""


def _step_rows(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    counts: Int[Tensor, "b"],
    own: Bool[Tensor, "b t"],
    make_inputs: InputFunction,
    reduce: Callable[[Tensor, Tensor, int], Tensor] | None = None,
) -> Iterator[RollInStep]:
    """Step every row of the batch through its first `counts` cells, all rows together.

    Rows are sorted by `counts`, so that those which are done are dropped from the end. What own
    cells read comes in the order of the batch.

    Args:
        policy: the model.
        batch: the sentences.
        reference: what each cell reads, unless it is an own cell.
        counts: the number of cells of each row.
        own: the own cells.
        make_inputs: makes what they read.
        reduce: computes what is kept of scores, given these, their rows and their cell; a backward
            pass then computes the scores again. By default the scores are kept.
    """
    # A column is replaced when the cell before it was stepped through. Columns are separate
    # tensors, as those with mixtures are embeddings and the others tokens.
    columns = list(reference.unbind(1))
    readers = own.T.nonzero()[:, 1].split(own.sum(0).tolist())
    rows = counts.argsort(descending=True, stable=True)
    place = rows.argsort()  # the inverse: where each row of the batch is among the sorted ones
    # On the host, so that the loop does not wait for the device.
    remaining = [count for count in counts[rows].tolist() if count > 0]
    rows = rows[: len(remaining)]
    state = policy.start(batch.source.select(rows))

    def step(state: State, cell: int, rows: Tensor, at: Tensor) -> tuple[Any, ...]:
        scores, state = policy.step(state, columns[cell][rows])
        scores, inputs, mixed = promote_scores(scores), None, None
        if len(at):
            inputs = make_inputs(scores[place[at]], at, torch.full_like(at, cell))
            mixed = _mix_embeddings(policy, inputs)
        return scores if reduce is None else reduce(scores, rows, cell), state, inputs, mixed

    for cell in range(remaining[0]):
        active = sum(count > cell for count in remaining)
        if active < len(rows):
            first = torch.arange(active, device=rows.device)
            rows, state, remaining = rows[first], state.select(first), remaining[:active]
        after = cell + 1
        given = state, cell, rows, readers[after] if after < len(columns) else rows[:0]
        if reduce is None:
            kept, state, inputs, mixed = step(*given)
        else:
            kept, state, inputs, mixed = checkpoint(step, *given, use_reentrant=False)
        if mixed is not None:
            columns[after] = _replace_inputs(policy, columns[after], (given[-1],), mixed)
        yield cell, rows, kept, inputs
