"""Whether a model's next token is right after every prefix of references, or of any rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, shift_right
from freerun.costs.rows import mask_unknown
from freerun.data import Examples
from freerun.evaluation.decoding import batches_by_length, on_device
from freerun.policy import Policy, Trace, evaluation_mode
from freerun.references import nearest_prefix_table

ErrorCost = Literal["edit_distance", "hamming"]
"""The costs under which optimal next tokens are known."""

_MOST_SCORES = 2**22
"""The maximum number of scores that are computed at a time: few enough to stay in the cache."""


@dataclass(frozen=True)
class OptimalTokens:
    """The tokens after which the minimum cost can still be reached, for every cell of some rows.

    Attributes:
        cells: the number of a cell, counted row by row, for each of its optimal tokens; ascending.
        tokens: these tokens, each once per cell.
        free: the cells where every token but eos is optimal.
        nearest: the length of the prefix of the reference that is nearest to that before the cell.
        eos: the token that ends a row, if there is one.
    """

    cells: Int[Tensor, "m"]
    tokens: Int[Tensor, "m"]
    free: Bool[Tensor, "b u"]
    nearest: Int[Tensor, "b u"]
    eos: int | None

    def contain(self, tokens: Int[Tensor, "b u"]) -> Bool[Tensor, "b u"]:
        """Return whether the token of each cell is optimal there."""
        found = self.free & (tokens != self.eos) if self.eos is not None else self.free.clone()
        hit = tokens.flatten()[self.cells] == self.tokens
        found.view(-1)[self.cells[hit]] = True
        return found

    def mark(self, cells: Int[Tensor, "n"], actions: int) -> Bool[Tensor, "n {actions}"]:
        """Return the optimal tokens of some cells, given by their numbers in ascending order."""
        marked = self.free.flatten()[cells][:, None].repeat(1, actions)
        if self.eos is not None:
            marked[:, self.eos] = False
        at = torch.searchsorted(cells.contiguous(), self.cells).clamp(max=max(0, len(cells) - 1))
        known = cells[at] == self.cells if len(cells) else torch.zeros_like(at, dtype=torch.bool)
        marked[at[known], self.tokens[known]] = True
        return marked

    def sum_probabilities(
        self, scores: Float[Tensor, "n a"], cells: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        """Sum the probabilities of the optimal tokens of consecutive cells, given their scores."""
        total = scores.logsumexp(1)
        first, last = (torch.searchsorted(self.cells, at) for at in (cells[0], cells[-1] + 1))
        at = torch.searchsorted(cells, self.cells[first:last])
        tokens = self.tokens[first:last]
        found = torch.zeros_like(total)
        found.index_add_(0, at, (scores[at, tokens] - total[at]).exp())
        free = self.free.flatten()[cells]
        if self.eos is None or not free.any():
            return found.where(~free, 1)
        ends = torch.zeros_like(free).index_fill_(0, at[tokens == self.eos], True)
        rest = 1 - (scores[:, self.eos] - total).exp().where(~ends, 0)
        return rest.where(free, found)


class PrefixErrors:
    """Finds the errors of a model after the prefixes of rows of tokens, for a batch of sentences.

    Args:
        policy: the model, in evaluation mode.
        batch: the sentences.
        cost: the cost that defines which tokens are errors.
    """

    def __init__(self, policy: Policy, batch: Batch, cost: ErrorCost) -> None:
        self.policy, self.batch, self.cost = policy, batch, cost
        eos = policy.vocabulary.eos
        ended = batch.target == eos if eos is not None else torch.zeros_like(batch.mask)
        self.lengths = (batch.mask & ~ended).sum(1)

    def find(self, tokens: Int[Tensor, "b u"], mask: Bool[Tensor, "b u"]) -> JudgedRows:
        """Read rows, and judge the most likely token before each cell that is true."""
        trace = self.policy.force(
            self.batch.source, shift_right(tokens, self.policy.vocabulary.bos)
        )
        optimal = self.find_optimal(tokens, mask)
        chosen = torch.zeros_like(tokens)
        probability = torch.zeros(tokens.shape, device=tokens.device)
        for cells, scores in self._score(trace, mask):
            chosen.view(-1)[cells] = scores.argmax(1)
            right = optimal.sum_probabilities(scores.float(), cells)
            probability.view(-1)[cells] = (1 - right).clamp(min=0)
        wrong = mask & ~optimal.contain(chosen)
        return JudgedRows(tokens, mask, wrong, probability, optimal, trace)

    def find_optimal(self, tokens: Int[Tensor, "b u"], mask: Bool[Tensor, "b u"]) -> OptimalTokens:
        """Return the optimal tokens of the cells that are true, which follow prefixes of rows."""
        vocabulary = self.policy.vocabulary
        eos, places = vocabulary.eos, torch.arange(tokens.shape[1], device=tokens.device)
        after = mask_unknown(self.batch.target, vocabulary.unknown).long()
        if eos is not None:
            after = torch.cat([after, after.new_zeros(len(after), 1)], 1)
            ends = torch.arange(after.shape[1], device=after.device) == self.lengths[:, None]
            after = after.where(~ends, eos)
        if self.cost == "hamming":
            nearest = torch.minimum(places, self.lengths[:, None])
            right = after.gather(1, nearest.clamp(max=after.shape[1] - 1))
            cells = (mask & (right >= 0)).flatten().nonzero()[:, 0]
            free = torch.zeros_like(mask)
            return OptimalTokens(cells, right.flatten()[cells], free, nearest, eos)
        pairs = (tokens, mask.sum(1), self.batch.target, self.lengths)
        table = nearest_prefix_table(*pairs, unknown=vocabulary.unknown)
        table = table[:, : tokens.shape[1]] & mask[..., None]
        free = (table & (after < 0)[:, None]).any(2)
        nearest = torch.arange(table.shape[2], device=table.device).where(table, 0).amax(2)
        rows, places, before = (table & (after >= 0)[:, None]).nonzero(as_tuple=True)
        # A token may follow several of the nearest prefixes.
        number = (rows * tokens.shape[1] + places) * vocabulary.actions + after[rows, before]
        number = number.unique()
        cells = number // vocabulary.actions
        return OptimalTokens(cells, number % vocabulary.actions, free, nearest, eos)

    def _score(
        self, trace: Trace, mask: Bool[Tensor, "b u"]
    ) -> Iterator[tuple[Int[Tensor, "n"], Float[Tensor, "n a"]]]:
        """Yield the numbers of some cells and their scores, until all true cells are covered."""
        for cells, some in split_cells(mask, self.policy.vocabulary.actions):
            yield cells, trace.logits(some)


def find_reference_errors(
    policy: Policy, examples: Examples, *, batch_size: int = 256
) -> list[list[bool]]:
    """Return for every position of every reference whether the model errs after the correct prefix.

    It errs if its most likely next token is not that of the reference. The last position is also
    wrong if the model would not end there. This is the control of `find_position_errors`: the rate
    of errors at a position if earlier ones had no consequences.

    Args:
        policy: the policy, which reads in evaluation mode.
        examples: the examples.
        batch_size: the number of examples that are read together.
    """
    vocabulary = policy.vocabulary
    found: list[list[bool]] = [[] for _ in range(len(examples))]
    for numbers in batches_by_length(examples, batch_size):
        batch = on_device(examples.batch(numbers), policy)
        right = mask_unknown(batch.target, vocabulary.unknown)
        wrong = batch.mask.clone()
        with torch.no_grad(), evaluation_mode(policy):
            trace = policy.force(batch.source, batch.inputs(vocabulary.bos))
            for cells, some in split_cells(batch.mask, vocabulary.actions):
                wrong.view(-1)[cells] = trace.logits(some).argmax(1) != right.flatten()[cells]
        lengths = batch.lengths.tolist()
        for number, row, length, last in zip(
            numbers, wrong.tolist(), lengths, batch.target.tolist(), strict=True
        ):
            found[number] = row[:length]
            if length and last[length - 1] == vocabulary.eos:
                ends_late = found[number].pop()
                if found[number]:
                    found[number][-1] |= ends_late
    return found


def split_cells(
    mask: Bool[Tensor, "b u"], actions: int
) -> Iterator[tuple[Int[Tensor, "n"], Bool[Tensor, "b u"]]]:
    """Yield the numbers of some true cells, and a mask of them, until all are covered.

    Args:
        mask: the cells.
        actions: the number of scores of a cell; those of the cells yielded stay in the cache.
    """
    for cells in mask.flatten().nonzero()[:, 0].split(max(1, _MOST_SCORES // actions)):
        some = torch.zeros_like(mask)
        some.view(-1)[cells] = True
        yield cells, some


@dataclass(frozen=True)
class JudgedRows:
    """Rows of tokens, and the errors of the model after each of their prefixes.

    Attributes:
        tokens: the tokens.
        mask: true on the cells that were judged.
        wrong: whether the most likely token after the prefix is not optimal.
        probability: the probability of the tokens that are not optimal.
        optimal: the optimal tokens.
        trace: the rows as the model read them.
    """

    tokens: Int[Tensor, "b u"]
    mask: Bool[Tensor, "b u"]
    wrong: Bool[Tensor, "b u"]
    probability: Float[Tensor, "b u"]
    optimal: OptimalTokens
    trace: Trace
