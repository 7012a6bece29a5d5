"""Roll-out: what becomes of a sentence when a token is tried at a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, inputs_of
from freerun.decoding import decode_by, evaluation_mode, greedy_choice, writer_of
from freerun.decoding.writing import written
from freerun.policy import BoundedTrace, Choose, Policy, Trace, Writer

NextToken = Callable[[Int[Tensor, "n p"], Int[Tensor, "n"], Int[Tensor, "n"]], Int[Tensor, "n"]]
"""From (prefixes, their lengths, the rows of the batch that they are of) to reference tokens."""


@dataclass(frozen=True)
class Trajectories:
    """What was written during a roll-in, a row for each sentence.

    Attributes:
        tokens: the token written at every cell, eos included.
        mask: the cells of each row: true up to its eos, or to its limit.
        greedy: whether all that is written after a cell is the policy's greedy choice, so that a
            greedy roll-out of the token that stands there would write it again.
    """

    tokens: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]
    greedy: Bool[Tensor, "b t"]

    @property
    def lengths(self) -> Int[Tensor, "b"]:
        """The number of cells of every row."""
        return self.mask.sum(1)

    def inputs(self, bos: int) -> Int[Tensor, "b t"]:
        """What every cell reads: bos, then the token written before it."""
        return inputs_of(self.tokens, bos)


def reference_trajectories(batch: Batch) -> Trajectories:
    """The targets."""
    return Trajectories(batch.target, batch.mask, torch.zeros_like(batch.mask))


@torch.no_grad()
def learned_trajectories(
    policy: Policy, batch: Batch, own: Bool[Tensor, "b"], limit: Int[Tensor, "b"]
) -> Trajectories:
    """What the policy writes greedily for the sentences of `own`, and the targets of the others.

    Args:
        policy: the model; decodes in evaluation mode.
        batch: the sentences.
        own: the sentences that the policy writes.
        limit: the most tokens of each, eos included.
    """
    rows = own.nonzero()[:, 0]
    if len(rows) == 0:
        return reference_trajectories(batch)

    width = max(int(limit.max()), batch.target.shape[1])
    tokens = torch.full((len(own), width), policy.vocabulary.pad, device=own.device)
    taught = (~own).nonzero()[:, 0]
    tokens[taught, : batch.target.shape[1]] = batch.target[taught]
    lengths = batch.lengths.clone()
    with evaluation_mode(policy):
        writer = writer_of(policy)
        numbers = torch.arange(len(rows), device=rows.device)
        writer.begin(policy.start(batch.source.select(rows)), numbers)
        inputs = torch.full_like(rows, policy.vocabulary.bos)
        steps = written(writer, inputs, limit[rows], policy.vocabulary.eos)
        for cell, (writing, chosen, _) in enumerate(steps):
            tokens[rows[writing], cell] = chosen
            lengths[rows[writing]] = cell + 1
    tokens = tokens[:, : int(lengths.max())]
    mask = torch.arange(tokens.shape[1], device=own.device) < lengths[:, None]
    return Trajectories(tokens, mask, mask & own[:, None])


def mixed_trajectories(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    limit: Int[Tensor, "b"],
    reference: NextToken,
) -> Trajectories:
    """Cells of `own` are written by the policy, greedily; the others by the reference policy.

    The reference token is the one that the reference policy writes after the actual prefix.

    Args:
        policy: the model; decodes in evaluation mode.
        batch: the sentences.
        own: the cells that the policy writes; at least as wide as the largest limit.
        limit: the most tokens of each sentence, eos included.
        reference: gives the next token of the reference policy.
    """
    count, longest = len(limit), int(limit.max())
    tokens = torch.full((count, longest), policy.vocabulary.pad, device=limit.device)

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        chosen = greedy_choice(scores)
        given = (~own[rows, cell]).nonzero()[:, 0]
        if len(given):
            taught = rows[given]
            length = torch.full_like(taught, cell)
            chosen[given] = reference(tokens[taught, :cell], length, taught)
        tokens[rows, cell] = chosen
        return chosen, scores.new_zeros(len(rows))

    written = decode_by(policy, batch.source, choose, limit)
    mask = torch.arange(written.tokens.shape[1], device=own.device) < written.lengths[:, None]
    theirs = own[:, : mask.shape[1]] | ~mask
    # True where all cells after this one are the policy's own.
    after = torch.cat([theirs[:, 1:], torch.ones_like(theirs[:, :1])], 1)
    greedy = after.flip(1).int().cumprod(1).flip(1).bool()
    return Trajectories(written.tokens, mask, greedy & mask)


Draw = Callable[[Float[Tensor, "n a"], Int[Tensor, "n"], Int[Tensor, "n"]], Int[Tensor, "n"]]
"""From (scores, which of the trials they are of, the cells to be written) to tokens."""

Complete = Callable[
    [Int[Tensor, "n p"], Int[Tensor, "n"], Int[Tensor, "n"]],
    tuple[Int[Tensor, "n s"], Int[Tensor, "n"]],
]
"""From (prefixes, their lengths, the rows of the batch) to completions and their lengths."""


@dataclass(frozen=True)
class Trials:
    """Tokens to be tried: trial i writes `tokens[i]` at the cell numbered `place[i]`.

    Attributes:
        rows: the row of the batch of every cell.
        cells: the cell of its row.
        place: for each trial, which of the cells it stands at.
        tokens: the token that it tries there.
    """

    rows: Int[Tensor, "m"]
    cells: Int[Tensor, "m"]
    place: Int[Tensor, "n"]
    tokens: Int[Tensor, "n"]

    def select(self, trials: Int[Tensor, "k"]) -> Trials:
        """Some of the trials."""
        return replace(self, place=self.place[trials], tokens=self.tokens[trials])


@dataclass(frozen=True)
class Outputs:
    """What became of each trial.

    Attributes:
        tokens: the whole sequence; what stands beyond its length has no meaning.
        lengths: the number of its tokens, eos left out.
        open: whether it still goes on: neither ended by eos nor as long as it may be.
        steps: how many decoder steps were run for all of them together.
    """

    tokens: Int[Tensor, "n t"]
    lengths: Int[Tensor, "n"]
    open: Bool[Tensor, "n"]
    steps: int = 0


@torch.no_grad()
def roll_out(
    policy: Policy,
    trace: Trace,
    roll_in: Trajectories,
    trials: Trials,
    *,
    limit: Int[Tensor, "b"],
    most: Int[Tensor, "b"],
    draw: Draw | None = None,
    at_once: int,
) -> Outputs:
    """Try the tokens, and let the policy continue.

    All trials advance together, and leave as they end. A greedy roll-out that would only repeat
    the roll-in is read off it.

    Args:
        policy: the model; continues in evaluation mode.
        trace: the roll-in as the policy read it, without dropout.
        roll_in: the prefixes.
        trials: the tokens to try, and where.
        limit: for each row of the batch, the most tokens, eos included.
        most: for each row, how many tokens the policy may write after one that is tried; 0 for a
            roll-out that is the reference policy's from the start.
        draw: samples a token from scores; left out, roll-outs are greedy.
        at_once: the most trials that are run together, which bounds the memory they take; fewer
            where the trace knows that they would not fit.
    """
    rows = trials.rows[trials.place]
    outputs = _begun(policy, roll_in, trials, limit, most[rows] > 0)
    running = outputs.open & (most[rows] > 0)
    if draw is None:
        outputs, known = _repeated(
            policy, roll_in, trials, outputs, running & (most >= limit)[rows]
        )
        running = running & ~known
    waiting = running.nonzero()[:, 0]
    if len(waiting) == 0:
        return outputs
    # Those with the farthest to go first, so that those run together end together.
    left = torch.minimum(limit[rows] - outputs.lengths, most[rows])[waiting]
    order = left.argsort(descending=True, stable=True)
    steps = 0
    with evaluation_mode(policy):
        writer = writer_of(policy)
        for some in _chunks(trace, left[order], at_once):
            chunk = waiting[order[some]].sort().values  # rows of a sentence side by side
            last = torch.minimum(limit[rows], outputs.lengths + most[rows])[chunk] - 1
            steps += _run(policy, writer, trace, trials, outputs, chunk, last, limit[rows], draw)
    return replace(outputs, steps=steps)


def complete(
    outputs: Outputs, rows: Int[Tensor, "n"], reference: Complete, limit: Int[Tensor, "n"] | None
) -> Outputs:
    """Let the reference policy finish all that is open.

    Args:
        outputs: what was written so far.
        rows: the row of the batch of each.
        reference: gives completions.
        limit: the exact length of each row, where outputs have a fixed length.
    """
    going = outputs.open.nonzero()[:, 0]
    if len(going) == 0:
        return outputs
    prefixes, lengths = outputs.tokens[going], outputs.lengths[going]
    prefixes = prefixes[:, : int(lengths.max())]
    rest, counts = reference(prefixes, lengths, rows[going])
    if limit is not None:
        counts = torch.minimum(counts, limit[going] - lengths)
    ends = lengths + counts
    tokens = outputs.tokens
    missing = int(ends.max()) - tokens.shape[1]
    if missing > 0:
        tokens = torch.nn.functional.pad(tokens, (0, missing))
    places = torch.arange(rest.shape[1], device=rest.device)
    written = places < counts[:, None]
    at = (going[:, None] * tokens.shape[1] + lengths[:, None] + places)[written]
    tokens = tokens.flatten().index_put((at,), rest[written]).view(tokens.shape)
    return Outputs(
        tokens,
        outputs.lengths.index_put((going,), ends),
        torch.zeros_like(outputs.open),
        outputs.steps,
    )


def _chunks(trace: Trace, left: Int[Tensor, "n"], at_once: int) -> Iterator[slice]:
    """Trials to be run together; they are sorted by how many tokens are left to write."""
    start = 0
    while start < len(left):
        many = at_once
        if isinstance(trace, BoundedTrace):
            many = max(1, min(many, trace.most_rows(int(left[start]))))
        yield slice(start, start + many)
        start += many


def _begun(
    policy: Policy,
    roll_in: Trajectories,
    trials: Trials,
    limit: Int[Tensor, "b"],
    learned: Bool[Tensor, "n"],
) -> Outputs:
    """The prefix of each trial and the token it tries.

    Of outputs that end by eos, those `learned`, which the policy continues, end at the limit too;
    the reference policy ends by itself.
    """
    rows, cells = trials.rows[trials.place], trials.cells[trials.place]
    width = int(limit.max())
    prefixes = roll_in.tokens.new_zeros(len(limit), width)
    shared = min(width, roll_in.tokens.shape[1])
    prefixes[:, :shared] = roll_in.tokens[:, :shared]
    tokens = prefixes[rows]
    tokens.scatter_(1, cells[:, None], trials.tokens[:, None])
    full = cells + 1 >= limit[rows]
    if policy.vocabulary.eos is None:
        return Outputs(tokens, cells + 1, ~full)
    ended = trials.tokens == policy.vocabulary.eos
    return Outputs(tokens, cells + (~ended).long(), ~ended & ~(full & learned))


def _repeated(
    policy: Policy,
    roll_in: Trajectories,
    trials: Trials,
    outputs: Outputs,
    asked: Bool[Tensor, "n"],
) -> tuple[Outputs, Bool[Tensor, "n"]]:
    """Read off the roll-in what would only be written again; gives where that was done."""
    rows, cells = trials.rows[trials.place], trials.cells[trials.place]
    known = asked & roll_in.greedy[rows, cells] & (trials.tokens == roll_in.tokens[rows, cells])
    lengths = roll_in.lengths
    if policy.vocabulary.eos is not None:
        last = roll_in.tokens.gather(1, lengths[:, None] - 1)[:, 0]
        lengths = lengths - (last == policy.vocabulary.eos).long()
    return (
        replace(
            outputs,
            lengths=torch.where(known, lengths[rows], outputs.lengths),
            open=outputs.open & ~known,
        ),
        known,
    )


def _run(
    policy: Policy,
    writer: Writer,
    trace: Trace,
    trials: Trials,
    outputs: Outputs,
    chunk: Int[Tensor, "k"],
    last: Int[Tensor, "k"],
    limit: Int[Tensor, "n"],
    draw: Draw | None,
) -> int:
    """Continue the trials of `chunk`, and write into `outputs`; gives the number of steps.

    `last` is the last cell that each may write.
    """
    places, at = trials.place[chunk].unique_consecutive(return_inverse=True)
    writer.begin(trace.fork(trials.rows[places], trials.cells[places]), at)
    cells, eos, steps = outputs.lengths[chunk], policy.vocabulary.eos, 0
    choose: Choose | None = None
    if draw is not None:
        choose = lambda scores, rows: draw(scores, chunk[rows], cells[rows])  # noqa: E731
    room = last - cells + 1
    for rows, tokens, done in written(writer, trials.tokens[chunk], room, eos, choose):
        steps += len(rows)
        outputs.tokens[chunk[rows], cells[rows]] = tokens
        cells = cells + 1
        ended = rows[done]
        outputs.lengths[chunk[ended]] = cells[ended]
    lengths = outputs.lengths[chunk]
    ended = torch.zeros_like(chunk, dtype=torch.bool)
    if eos is not None:
        ended = outputs.tokens[chunk, lengths - 1] == eos
    outputs.lengths[chunk] = lengths - ended.long()
    outputs.open[chunk] = ~ended & (lengths < limit[chunk])
    return steps
