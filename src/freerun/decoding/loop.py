"""The decoding loops, and their result."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.costs.rows import length_mask
from freerun.decoding.sampling import Sampler, promote_scores
from freerun.policy import Policy, TokenChooser, Writer
from freerun.vocabulary import Vocabulary

# The loop checks which rows have ended once in this number of cells. Every check waits for the
# device, so except on the CPU it costs more than a few steps of ended rows.
CHECK_EVERY = {"cpu": 1}
CHECK_EVERY_DEFAULT = 8


@dataclass(frozen=True)
class Decoded:
    """The result of decoding.

    Attributes:
        tokens: the tokens of every row, eos included; `pad` after the end. With a backspace in the
            vocabulary, the tokens that remain.
        lengths: the number of tokens of each row, eos included.
        ended: whether a row ended by itself: by eos or, without one, at its exact length.
        log_probs: the log-probability of each row under the distribution that it was chosen from:
            the sum over all its actions.
        scores: the scores at every cell, zero after the end; None unless `keep_scores` was set.
        actions: all actions of each row, tokens, backspaces and eos; `pad` after the end. None if
            the vocabulary has no backspace.
        action_lengths: the number of actions of each row; None if the vocabulary has no backspace.
    """

    tokens: Int[Tensor, "n t"]
    lengths: Int[Tensor, "n"]
    ended: Bool[Tensor, "n"]
    log_probs: Float[Tensor, "n"]
    scores: Float[Tensor, "n t a"] | None = None
    actions: Int[Tensor, "n u"] | None = None
    action_lengths: Int[Tensor, "n"] | None = None

    @property
    def all_actions(self) -> tuple[Int[Tensor, "n u"], Bool[Tensor, "n u"]]:
        """The actions of each row (its tokens, without a backspace), and a mask of the same shape.

        The mask is true on actions.
        """
        taken, lengths = self.actions, self.action_lengths
        if taken is None or lengths is None:
            taken, lengths = self.tokens, self.lengths
        return taken, length_mask(taken.shape[1], lengths)

    def lists(self, eos: int | None) -> list[list[int]]:
        """Return the tokens of every row, without its closing eos."""
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)
        written = [tokens[:length] for tokens, length in rows]
        return [row[:-1] if eos is not None and row[-1:] == [eos] else row for row in written]


def resolve_limit(
    policy: Policy, source: Source, limit: Int[Tensor, "n"] | None
) -> Int[Tensor, "n"]:
    """Return the maximum number of actions of each row: `limit`, or else the policy's own.

    Raises:
        ValueError: if a limit is below 1.
    """
    limit = policy.limit(source) if limit is None else limit
    row = int(limit.argmin())
    if limit[row] < 1:
        raise ValueError(f"the limit of row {row} is {int(limit[row])}; it must be at least 1")
    return limit


class Scorer(ABC):
    """Rows that read the chosen actions, and return the scores of the next."""

    @abstractmethod
    def score(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Read the last action of each row, bos at first, and return the scores of the next."""

    @abstractmethod
    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""


def run_scorer(
    scorer: Scorer,
    vocabulary: Vocabulary,
    choose: Sampler,
    limit: Int[Tensor, "n"],
    *,
    keep_scores: bool = False,
) -> Decoded:
    """Decode with `choose` until every row has ended or reached its limit.

    Ended rows stay in the batch, and what they write is ignored, until they make up a quarter of
    it: selecting rows costs about as much as a step.
    """
    count, longest, device = len(limit), int(limit.max()), limit.device
    tokens = torch.full((count, longest), vocabulary.pad, device=device)
    # Filled in when a row is dropped, so that `total` only holds the rows of the batch.
    log_probs = torch.empty(count, dtype=torch.float32, device=device)
    kept: list[Tensor] = []
    rows = torch.arange(count, device=device)
    inputs = torch.full_like(rows, vocabulary.bos)
    total = torch.zeros(count, dtype=torch.float32, device=device)
    live, left = torch.ones_like(rows, dtype=torch.bool), limit
    for cell in range(longest):
        scores = promote_scores(scorer.score(inputs))
        inputs, log_prob = choose(scores, rows, cell)
        tokens[rows, cell] = inputs
        total = total + log_prob.where(live, 0.0)
        if keep_scores:  # of all rows, including dropped ones, to be stacked at the end
            kept.append(scores.new_zeros(count, scores.shape[1]).index_copy(0, rows, scores))
        live = live & (left > cell + 1)
        if vocabulary.eos is not None:
            live = live & (inputs != vocabulary.eos)
        if (cell + 1) % CHECK_EVERY.get(device.type, CHECK_EVERY_DEFAULT):
            continue
        stay = live.nonzero()[:, 0]
        if len(stay) == 0:
            break
        if 4 * len(stay) <= 3 * len(rows):
            log_probs[rows] = total.float()
            rows, inputs = rows[stay], inputs[stay]
            left, total, live = left[stay], total[stay], live[stay]
            scorer.keep(stay)
    log_probs[rows] = total.float()
    # Ended rows may have written on until they were dropped.
    inside, ended = _find_ends(tokens, limit, vocabulary.eos)
    lengths = inside.sum(1)
    inside = inside[:, : int(lengths.max())]
    tokens = tokens[:, : inside.shape[1]].where(inside, vocabulary.pad)
    every = None
    if keep_scores:
        every = torch.stack(kept[: inside.shape[1]], 1).where(inside[..., None], 0.0)
    return Decoded(tokens, lengths, ended, log_probs, every)


def _find_ends(
    tokens: Int[Tensor, "n t"], limit: Int[Tensor, "n"], eos: int | None
) -> tuple[Bool[Tensor, "n t"], Bool[Tensor, "n"]]:
    """Return which tokens are part of a row, eos included, and whether it ended by itself."""
    inside = length_mask(tokens.shape[1], limit)
    if eos is None:
        return inside, torch.ones_like(limit, dtype=torch.bool)
    closing = (tokens == eos) & inside
    # Exclusive sum: a token is inside if no eos comes before it.
    return inside & (closing.cumsum(1) - closing.long() == 0), closing.any(1)


CellChooser = Callable[[Float[Tensor, "k a"], Int[Tensor, "k"], int], Int[Tensor, "k"]]
"""A function from scores, the rows they belong to, and the cell, to tokens."""

WriterStep = tuple[Int[Tensor, "k"], Int[Tensor, "k"], Bool[Tensor, "k"]]
"""The rows that wrote a token, the tokens, and which rows are done."""


def _choose_at(choose: CellChooser, rows: Int[Tensor, "n"], cell: int) -> TokenChooser:
    """Return the choice of tokens for a writer whose rows are these, at this cell."""
    return lambda scores, which: choose(scores, rows[which], cell)


def run_writer(
    writer: Writer,
    inputs: Int[Tensor, "n"],
    limit: Int[Tensor, "n"],
    eos: int | None,
    choose: CellChooser | None = None,
) -> Iterator[WriterStep]:
    """Let a writer write until each row has written eos or reached its limit.

    This loop is faster than `run_scorer`: a writer does not store the scores of all rows and
    tokens, and need not even compute all of them to find the best. So it returns no
    log-probabilities.

    Args:
        writer: a writer that has begun with n rows.
        inputs: the token that each row reads first.
        limit: the maximum number of tokens that each may write, at least 1.
        eos: the token that ends a row, if there is one.
        choose: the choice of tokens; greedy by default. It must not keep the scores, which are
            overwritten.

    Yields:
        Every step of all rows that are still writing.
    """
    rows = torch.arange(len(inputs), device=inputs.device)

    for cell in itertools.count():
        if len(rows) == 0:
            return
        inputs = writer.write(inputs, choose and _choose_at(choose, rows, cell))
        limit = limit - 1
        done = limit == 0
        if eos is not None:
            done = done | (inputs == eos)
        yield rows, inputs, done
        stay = (~done).nonzero()[:, 0]
        if len(stay) < len(rows):
            rows, inputs, limit = rows[stay], inputs[stay], limit[stay]
            writer.keep(stay)
