"""Roll-out: try tokens at cells of a roll-in, and complete the sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.decoding import run_writer
from freerun.policy import Policy, State, Trace, Writer, evaluation_mode
from freerun.trajectories import Trajectories

Completer = Callable[
    [Int[Tensor, "n p"], Int[Tensor, "n"], Int[Tensor, "n"]],
    tuple[Int[Tensor, "n s"], Int[Tensor, "n"]],
]
"""A function from (prefixes, their lengths, their rows of the batch) to completions and lengths."""


@dataclass(frozen=True)
class Trials:
    """Tokens to try: trial i writes `tokens[i]` at the m-th cell, where m = `place[i]`.

    Attributes:
        rows: for every cell, its row of the batch.
        cells: for every cell, its position in the row.
        place: for each trial, the number of its cell among these.
        tokens: the token that each trial tries.
    """

    rows: Int[Tensor, "m"]
    cells: Int[Tensor, "m"]
    place: Int[Tensor, "n"]
    tokens: Int[Tensor, "n"]


@dataclass(frozen=True)
class RollOuts:
    """The whole sequence of each trial.

    Attributes:
        tokens: the whole sequence; beyond its length, the values are arbitrary.
        lengths: the number of tokens, without eos.
        open: whether it is unfinished: neither ended by eos nor at its limit.
        steps: the number of decoder steps that were run, summed over trials.
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
    max_new_tokens: Int[Tensor, "b"],
    chunk_size: int,
) -> RollOuts:
    """Try tokens, and let the policy continue greedily after each of them.

    All trials are decoded together, and are dropped when they end. A roll-out that would only
    repeat the roll-in is copied from it.

    Args:
        policy: the model; continues in evaluation mode.
        trace: the roll-in as the policy read it, without dropout.
        roll_in: the prefixes.
        trials: the tokens to try, and where.
        limit: for each row of the batch, the maximum number of tokens, eos included.
        max_new_tokens: for each row, the maximum number of tokens that the policy writes after the
            tried one; 0 if the reference policy continues at once.
        chunk_size: the maximum number of trials that run together, which limits memory; see also
            `Trace.max_forks`.
    """
    rows = trials.rows[trials.place]
    outputs = _start_trials(policy, roll_in, trials, limit, max_new_tokens[rows] > 0)
    running = outputs.open & (max_new_tokens[rows] > 0)
    to_end = running & (max_new_tokens >= limit)[rows]
    outputs, known = _copy_repeats(policy, roll_in, trials, outputs, to_end)
    running = running & ~known
    # `outputs` is filled in place from here on, chunk by chunk.
    waiting = running.nonzero()[:, 0]
    if len(waiting) == 0:
        return outputs
    # Longest first, so that trials of a chunk end at about the same time.
    left = torch.minimum(limit[rows] - outputs.lengths, max_new_tokens[rows])[waiting]
    order = left.argsort(descending=True, stable=True)
    steps = 0
    with evaluation_mode(policy):
        writer = policy.writer()
        for some in _split_chunks(trace, left[order], chunk_size):
            chunk = waiting[order[some]].sort().values  # trials of a sentence side by side
            writer.begin(*_fork_trials(trace, trials, chunk))
            steps += _run_chunk(
                writer,
                trials.tokens[chunk],
                outputs,
                chunk,
                left=torch.minimum(limit[rows] - outputs.lengths, max_new_tokens[rows])[chunk],
                limit=limit[rows][chunk],
                eos=policy.vocabulary.eos,
            )
    return replace(outputs, steps=steps)


def complete_roll_outs(
    outputs: RollOuts, rows: Int[Tensor, "n"], reference: Completer, limit: Int[Tensor, "n"] | None
) -> RollOuts:
    """Let the reference policy finish all open sequences.

    Args:
        outputs: the sequences so far.
        rows: the row of the batch of each.
        reference: completes prefixes.
        limit: the exact length of each, if sequences have a fixed length.
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
    # The reference policy may go beyond the limit of the policy.
    missing = int(ends.max()) - tokens.shape[1]
    if missing > 0:
        tokens = torch.nn.functional.pad(tokens, (0, missing))
    places = torch.arange(rest.shape[1], device=rest.device)
    written = places < counts[:, None]
    at = (going[:, None] * tokens.shape[1] + lengths[:, None] + places)[written]
    tokens = tokens.flatten().index_put((at,), rest[written]).view(tokens.shape)
    return RollOuts(
        tokens,
        outputs.lengths.index_put((going,), ends),
        torch.zeros_like(outputs.open),
        outputs.steps,
    )


def _split_chunks(trace: Trace, left: Int[Tensor, "n"], chunk_size: int) -> Iterator[slice]:
    """Yield slices of trials that run together; trials are sorted by the number of tokens left."""
    start = 0
    while start < len(left):
        forks = trace.max_forks(int(left[start]))
        size = chunk_size if forks is None else max(1, min(chunk_size, forks))
        yield slice(start, start + size)
        start += size


def _start_trials(
    policy: Policy,
    roll_in: Trajectories,
    trials: Trials,
    limit: Int[Tensor, "b"],
    learned: Bool[Tensor, "n"],
) -> RollOuts:
    """Return the prefix of each trial, and the token it tries.

    Trials that the policy continues (`learned`) also end at the limit; the reference policy ends by
    itself.
    """
    rows, cells = trials.rows[trials.place], trials.cells[trials.place]
    width = int(limit.max())
    prefixes = roll_in.tokens.new_zeros(len(limit), width)
    # The roll-in may be longer or shorter than roll-outs may be.
    shared = min(width, roll_in.tokens.shape[1])
    prefixes[:, :shared] = roll_in.tokens[:, :shared]
    tokens = prefixes[rows]
    tokens.scatter_(1, cells[:, None], trials.tokens[:, None])
    full = cells + 1 >= limit[rows]
    if policy.vocabulary.eos is None:
        return RollOuts(tokens, cells + 1, ~full)
    ended = trials.tokens == policy.vocabulary.eos
    return RollOuts(tokens, cells + (~ended).long(), ~ended & ~(full & learned))


def _copy_repeats(
    policy: Policy,
    roll_in: Trajectories,
    trials: Trials,
    outputs: RollOuts,
    to_end: Bool[Tensor, "n"],
) -> tuple[RollOuts, Bool[Tensor, "n"]]:
    """Finish trials that would only repeat the roll-in, and return which these are.

    `to_end` are the trials that the policy itself continues to their end.
    """
    rows, cells = trials.rows[trials.place], trials.cells[trials.place]
    known = to_end & roll_in.greedy[rows, cells] & (trials.tokens == roll_in.tokens[rows, cells])
    lengths = roll_in.lengths
    if policy.vocabulary.eos is not None:  # lengths of outputs do not count it
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


def _fork_trials(
    trace: Trace, trials: Trials, chunk: Int[Tensor, "k"]
) -> tuple[State, Int[Tensor, "k"]]:
    """Return the states of the cells of some trials, one each, and the row of each trial."""
    # Trials of a cell are neighbors: its state is forked once, and shared by their first step.
    places, rows = trials.place[chunk].unique_consecutive(return_inverse=True)
    return trace.fork(trials.rows[places], trials.cells[places]), rows


def _run_chunk(
    writer: Writer,
    tokens: Int[Tensor, "k"],
    outputs: RollOuts,
    chunk: Int[Tensor, "k"],
    *,
    left: Int[Tensor, "k"],
    limit: Int[Tensor, "k"],
    eos: int | None,
) -> int:
    """Continue the trials of `chunk`, which try `tokens`, in place; return the number of steps.

    `left` is the number of tokens that the policy may still write in each, `limit` the maximum
    number of its tokens.
    """
    cells, steps = outputs.lengths[chunk], 0
    for rows, written, done in run_writer(writer, tokens, left, eos):
        steps += len(rows)
        outputs.tokens[chunk[rows], cells[rows]] = written
        cells = cells + 1
        finished = rows[done]
        outputs.lengths[chunk[finished]] = cells[finished]  # eos included, which is taken off below
    lengths = outputs.lengths[chunk]
    ended = torch.zeros_like(chunk, dtype=torch.bool)
    if eos is not None:
        ended = outputs.tokens[chunk, lengths - 1] == eos
    outputs.lengths[chunk] = lengths - ended.long()
    outputs.open[chunk] = ~ended & (lengths < limit)
    return steps
