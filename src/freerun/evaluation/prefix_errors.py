"""Whether a model's next token is right after every prefix of references, or of any rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, shift_right
from freerun.costs.rows import length_mask, mask_unknown
from freerun.data import Examples
from freerun.evaluation.decoding import Decoding, batches_by_length, decode, on_device
from freerun.policy import Policy, evaluation_mode
from freerun.references import nearest_prefix_table

ErrorCost = Literal["edit_distance", "hamming"]
"""The costs under which optimal next tokens are known."""

_MOST_SCORES = 2**22
"""The maximum number of scores that are computed at a time: few enough to stay in the cache."""

_MOST_POSITIONS = 5_000
"""The maximum number of positions, of sources and rows, that are read at a time. Hidden states of
few rows stay in the cache; decoding, which reads one position of each, gains from many."""


@dataclass(frozen=True)
class OptimalTokens:
    """The tokens after which the minimum cost can still be reached, for every cell of some rows.

    Attributes:
        cells: the number of a cell, counted row by row, for each of its optimal tokens; ascending.
        places: where these tokens are in `after`, each once per cell.
        after: the tokens of the references, and eos after them if there is one; below 0 what
            matches nothing.
        free: the cells where every token but eos is optimal.
        nearest: the length of the prefix of the reference that is nearest to that before the cell.
        eos: the token that ends a row, if there is one.
    """

    cells: Int[Tensor, "m"]
    places: Int[Tensor, "m"]
    after: Int[Tensor, "b r"]
    free: Bool[Tensor, "b u"]
    nearest: Int[Tensor, "b u"]
    eos: int | None

    @property
    def tokens(self) -> Int[Tensor, "m"]:
        """The optimal tokens of `cells`."""
        return self.after[self.cells // self.free.shape[1], self.places]

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

    def sum_probabilities(self, log_probs: Float[Tensor, "b u r"]) -> Float[Tensor, "b u"]:
        """Sum the probabilities of the optimal tokens of every cell, given those of `after`."""
        found = torch.zeros_like(log_probs[..., 0])
        optimal = log_probs.flatten(0, 1)[self.cells, self.places].exp()
        found.view(-1).index_add_(0, self.cells, optimal)
        if self.eos is None:
            return found.where(~self.free, 1)
        end = (self.after == self.eos).byte().argmax(1)
        ending = log_probs.gather(2, end[:, None, None].expand(*found.shape, 1))[..., 0].exp()
        ends = torch.zeros_like(self.free)
        ends.view(-1)[self.cells[self.tokens == self.eos]] = True
        return (1 - ending.where(~ends, 0)).where(self.free, found)


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
        # A symbol that closed tokens lack is encoded as pad: it matches nothing either.
        targets = mask_unknown(batch.target, policy.vocabulary.unknown).long()
        unseen = batch.mask & (targets >= policy.vocabulary.actions)
        self.targets = self.after = targets.masked_fill(unseen, -1)
        if eos is not None:
            self.after = torch.cat([self.after, self.after.new_zeros(len(self.after), 1)], 1)
            places = torch.arange(self.after.shape[1], device=self.after.device)
            self.after = self.after.where(places != self.lengths[:, None], eos)

    def read(self, tokens: Int[Tensor, "b u"], mask: Bool[Tensor, "b u"]) -> JudgedRows:
        """Read rows, and judge the most likely token before each cell that is true."""
        vocabulary = self.policy.vocabulary
        preferences = self._start(tokens.shape[1])
        inputs = shift_right(tokens, vocabulary.bos)
        positions = self.batch.source.mask.shape[1] + tokens.shape[1]
        every = torch.arange(len(tokens), device=tokens.device)
        for rows in every.split(max(1, _MOST_POSITIONS // positions)):
            trace = self.policy.force(self.batch.source.select(rows), inputs[rows])
            for _, some in split_cells(mask[rows], vocabulary.actions):
                at, cells = some.nonzero(as_tuple=True)
                preferences.add(trace.logits(some), rows[at], cells)
        return self._judge(tokens, mask, preferences)

    def write(self, decoding: Decoding) -> JudgedRows:
        """Let the model write, and judge its most likely token before each that it wrote."""
        policy, batch = self.policy, self.batch
        if not decoding.by_token:  # scores are not those of the rows that remain
            decoded = decode(policy, batch.source, decoding, ids=batch.ids)
            mask = length_mask(decoded.tokens.shape[1], decoded.lengths)
            return self.read(decoded.tokens, mask)
        preferences = self._start(int(policy.limit(batch.source).max()))

        def watch(
            scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int, _: Int[Tensor, "n"]
        ) -> None:
            preferences.add(scores, rows, cell)

        decoded = decode(policy, batch.source, decoding, ids=batch.ids, watch=watch)
        mask = length_mask(decoded.tokens.shape[1], decoded.lengths)
        return self._judge(decoded.tokens, mask, preferences)

    def find_optimal(self, tokens: Int[Tensor, "b u"], mask: Bool[Tensor, "b u"]) -> OptimalTokens:
        """Return the optimal tokens of the cells that are true, which follow prefixes of rows."""
        vocabulary, after = self.policy.vocabulary, self.after
        if self.cost == "hamming":
            cells = torch.arange(tokens.shape[1], device=tokens.device)
            nearest = torch.minimum(cells, self.lengths[:, None])
            places = nearest.clamp(max=after.shape[1] - 1)
            known = mask & (after.gather(1, places) >= 0)
            numbers = known.flatten().nonzero()[:, 0]
            free = torch.zeros_like(mask)
            return OptimalTokens(
                numbers, places.flatten()[numbers], after, free, nearest, vocabulary.eos
            )
        table = nearest_prefix_table(tokens, mask.sum(1), self.targets, self.lengths)
        table = table[:, : tokens.shape[1]] & mask[..., None]
        free = (table & (after < 0)[:, None]).any(2)
        last = table.shape[2] - 1
        nearest = (last - table.flip(2).byte().argmax(2)).where(mask, 0)
        rows, cells, places = (table & (after >= 0)[:, None]).nonzero(as_tuple=True)
        # A token may follow several of the nearest prefixes.
        first = (after[:, :, None] == after[:, None]).byte().argmax(2)
        numbers = (rows * tokens.shape[1] + cells) * after.shape[1] + first[rows, places]
        numbers = numbers.unique()
        cells, places = numbers // after.shape[1], numbers % after.shape[1]
        return OptimalTokens(cells, places, after, free, nearest, vocabulary.eos)

    def _start(self, length: int) -> Preferences:
        # What matches nothing, and what follows eos, is never optimal; any token stands in for it.
        return Preferences(self.after.clamp(0, self.policy.vocabulary.actions - 1), length)

    def _judge(
        self, tokens: Int[Tensor, "b u"], mask: Bool[Tensor, "b u"], preferences: Preferences
    ) -> JudgedRows:
        optimal = self.find_optimal(tokens, mask)
        width = tokens.shape[1]
        wrong = mask & ~optimal.contain(preferences.best[:, :width])
        right = optimal.sum_probabilities(preferences.log_probs[:, :width])
        probability = (1 - right).clamp(min=0).where(mask, 0)
        return JudgedRows(tokens, mask, wrong, probability, optimal)


class Preferences:
    """The most likely token of each cell of some rows, and the log-probabilities of a few others.

    All scores would take too much memory.

    Args:
        candidates: for each row, the tokens whose log-probabilities are kept.
        length: the number of cells of a row.
    """

    def __init__(self, candidates: Int[Tensor, "b r"], length: int) -> None:
        self.candidates = candidates
        self.best = candidates.new_zeros(len(candidates), length)
        self.log_probs = torch.zeros(*self.best.shape, candidates.shape[1], device=self.best.device)

    def add(
        self, scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cells: Int[Tensor, "n"] | int
    ) -> None:
        """Add the scores at some cells."""
        self.best[rows, cells] = scores.argmax(1)
        scores = scores.float()
        log_probs = scores.gather(1, self.candidates[rows]) - scores.logsumexp(1, keepdim=True)
        self.log_probs[rows, cells] = log_probs


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
    """

    tokens: Int[Tensor, "b u"]
    mask: Bool[Tensor, "b u"]
    wrong: Bool[Tensor, "b u"]
    probability: Float[Tensor, "b u"]
    optimal: OptimalTokens
