"""Beam search optimization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, shift_right
from freerun.costs import Cost, check_costs
from freerun.data import Codec
from freerun.decoding import promote_scores
from freerun.methods.base import (
    NO_MODULES,
    Clock,
    Method,
    Modules,
    Outcome,
    check_choice,
    check_range,
    check_warm_up,
    refuse_backspace,
)
from freerun.methods.metric_costs import bind_cost
from freerun.methods.mle import MLE
from freerun.methods.samples import check_cost, check_positive, count_text, resolve_cost
from freerun.methods.tuning import Choice, Range, Space
from freerun.policy import Policy, Trace, evaluation_mode
from freerun.vocabulary import Vocabulary

ScoreName = Literal["log_prob", "last"]


@dataclass(frozen=True, kw_only=True)
class BSO(Method):
    """Σ_t Δ·max(0, m - s(y*_{1:t}) + s(ŷ_{1:t})), where ŷ_{1:t} is the last of the beam at cell t.

    Wiseman and Rush 2016, *Sequence-to-Sequence Learning as Beam-Search Optimization*, arXiv
    1606.02960, equation 4. Where the reference has not the margin m, the search starts over from
    it.

    Args:
        beam: the size of the beam, at which it ends; at least 2. The last place is that of ŷ, so a
            model is trained for searches with beam - 1, and for greedy decoding if it is 2.
        anneal: the fraction of updates, after the warm-up, in which the beam grows from 2 to its
            size; in [0, 1].
        margin: m, finite and above 0.
        score: s of a prefix: `log_prob`, its log-probability, which beam search maximizes; or
            `last`, the score of its last token before the softmax, as in the paper.
        cost: Δ, the cost of the tokens of ŷ since the search last started over, given those of the
            reference: one of `freerun.costs`, a metric of texts such as wer, or the address of a
            function of either kind, `package.module:function`; by default 1. In Python also the
            function.
        warm_up: the fraction of updates, at the start of training, that are maximum likelihood; in
            [0, 1).

    Raises:
        ValueError: if a setting is out of range.
    """

    name: ClassVar[str] = "bso"
    paper: ClassVar[str] = "Wiseman and Rush 2016, arXiv 1606.02960"
    summary: ClassVar[str] = "keeps the reference in the beam of a search, by a margin"

    beam: int = 6
    anneal: float = 0.25
    margin: float = 1.0
    score: ScoreName = "log_prob"
    cost: str | Cost | None = None
    warm_up: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("beam", self.beam, 2)
        check_range("anneal", self.anneal, 0, 1)
        check_positive("margin", self.margin)
        check_choice("score", self.score, ScoreName)
        check_cost(self.cost)
        check_warm_up(self.warm_up)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The beam, the score, and the warm-up."""
        return {
            "beam": Choice((2, 4, 6)),
            "score": Choice(("log_prob", "last")),
            "warm_up": Range(0.1, 0.9),
        }

    def for_codec(self, codec: Codec) -> BSO:
        """Return this method with a metric of texts as a cost of tokens, if it is the cost."""
        return replace(self, cost=bind_cost(self.cost, codec))

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that the cost matches the vocabulary, which has no backspace.

        Raises:
            ValueError: if it does not.
        """
        refuse_backspace(vocabulary, self.name)
        if self.cost is not None:
            resolve_cost(self.cost, vocabulary, type(self).__name__)

    def find_size(self, clock: Clock) -> int:
        """Return the size of the beam, which grows by 1 at a time."""
        past = clock.step - math.ceil(self.warm_up * clock.total)
        growth = self.anneal * clock.total
        if past >= growth:
            return self.beam
        return 2 + int((self.beam - 1) * past / growth)

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of the targets in the warm-up, and the loss of the search after it.

        Both are divided by the number of target tokens.

        Raises:
            ValueError: if an example has no target, the cost does not match the vocabulary, or a
                cost is not finite.
        """
        batch.target_tokens()
        if clock.step < self.warm_up * clock.total:
            return MLE().loss(policy, batch, clock)
        local, count = self.score == "last", batch.mask.sum()
        size = self.find_size(clock)
        found = find_violations(policy, batch, size=size, margin=self.margin, local=local)
        differences, nothing = compare_scores(policy, batch, found, local=local)
        losses = (self.margin + differences).clamp(min=0)
        if self.cost is not None:
            cost = resolve_cost(self.cost, policy.vocabulary, type(self).__name__)
            losses = losses * found.compute_costs(batch, policy.vocabulary, cost).to(losses.dtype)
        share = torch.tensor(len(found.rows), device=count.device) / count
        return Outcome(losses.sum() + nothing, count, {"violations": share})


@dataclass(frozen=True)
class Violations:
    """Prefixes that a beam search ranks above those of the reference, or too little below.

    Attributes:
        rows: the example of each, by its row in the batch.
        starts: the number of tokens at the beginning that are those of the reference, because the
            search started over from there.
        ends: the number of tokens.
        tokens: the tokens; 0 after the end.
    """

    rows: Int[Tensor, "v"]
    starts: Int[Tensor, "v"]
    ends: Int[Tensor, "v"]
    tokens: Int[Tensor, "v t"]

    @property
    def steps(self) -> tuple[Int[Tensor, "v k"], Bool[Tensor, "v k"]]:
        """The cells of each prefix since its start, and a mask that is true on them."""
        counts = self.ends - self.starts
        steps = torch.arange(int(counts.max()) if len(counts) else 0, device=counts.device)
        cells = self.starts[:, None] + steps
        return cells.clamp(max=self.tokens.shape[1] - 1), steps < counts[:, None]

    def compute_costs(self, batch: Batch, vocabulary: Vocabulary, cost: Cost) -> Float[Tensor, "v"]:
        """Return the cost of the tokens of each since its start, given those of the reference.

        Raises:
            ValueError: if there is not one cost for each, or one is not finite.
        """
        cells, inside = self.steps
        pairs = []
        for tokens in (self.tokens, batch.target[self.rows]):
            written = tokens.gather(1, cells)
            pairs += [written, count_text(written, inside.sum(1), vocabulary.eos)]
        return check_costs(cost(*pairs), len(self.rows))


@torch.no_grad()
def find_violations(
    policy: Policy, batch: Batch, *, size: int, margin: float, local: bool
) -> Violations:
    """Search with a beam along the targets, and return where a target has not the margin.

    At its last cell, the rival of a target is the best other prefix; before, it is the last of the
    beam, or the one before it if that is the target. After a violation, the beam contains only the
    target. Prefixes that have ended are not continued.

    Args:
        policy: the model; searches in evaluation mode.
        batch: the examples.
        size: the size of the beam, at least 2.
        margin: how much better a target must be than its rival; above 0.
        local: whether the score of a prefix is that of its last token before the softmax, instead
            of its log-probability.
    """
    found = []
    with evaluation_mode(policy):
        search = _Search(policy, batch, size, local)
        for cell in range(int(batch.lengths.max())):
            found.append(search.step(cell, margin))
    return Violations(*(torch.cat(parts) for parts in zip(*found, strict=True)))


class _Search:
    """Beams of several examples, each of which contains the target.

    Args:
        policy: the model.
        batch: the examples.
        size: the size of the beam.
        local: whether only the score of the last token counts.
    """

    def __init__(self, policy: Policy, batch: Batch, size: int, local: bool) -> None:
        target = batch.target
        self.policy, self.batch, self.size, self.local = policy, batch, size, local
        self.rows = torch.arange(len(target), device=target.device)
        self.beams = torch.arange(size, device=target.device)
        self.live = torch.zeros(len(target), size, device=target.device)
        self.live[:, 1:] = -torch.inf
        self.written = target.new_zeros(len(target), size, target.shape[1])
        # Where the target is in the beam, and how many of its tokens the search started from.
        self.place, self.start = torch.zeros_like(self.rows), torch.zeros_like(self.rows)
        self.inputs = torch.full((target.shape[0] * size,), policy.vocabulary.bos).to(target.device)
        self.state = policy.start(batch.source).select(self.rows.repeat_interleave(size))

    def step(self, cell: int, margin: float) -> tuple[Tensor, ...]:
        """Search one cell further; return the rows, starts, ends and tokens of violations."""
        scores, self.state = self.policy.step(self.state, self.inputs)
        scores = promote_scores(scores)
        scores = scores if self.local else scores.log_softmax(-1)
        actions = scores.shape[1]
        totals = (self.live[..., None] + scores.unflatten(0, self.live.shape)).flatten(1)
        right = (self.place * actions + self.batch.target[self.rows, cell])[:, None]
        values, chosen = totals.topk(self.size)
        last = (self.batch.lengths[self.rows] == cell + 1)[:, None]
        at = torch.where(last, 0, self.size - 1)
        at = at + (chosen.gather(1, at) == right) * torch.where(last, 1, -1)  # never the target
        rival, value, own = chosen.gather(1, at), values.gather(1, at), totals.gather(1, right)
        violated = value.isfinite() & (value + margin > own)
        here = violated.nonzero()[:, 0]
        rival = rival[here, 0]
        prefixes = self.written[here, rival // actions]
        prefixes[:, cell] = rival % actions
        ends = torch.full_like(here, cell + 1)
        found = self.rows[here], self.start[here], ends, prefixes
        # After a violation, the target is alone in the beam.
        alone = own.masked_fill(self.beams > 0, -torch.inf)
        self._continue(
            cell, torch.where(violated, right, chosen), torch.where(violated, alone, values), right
        )
        self.start = torch.where(violated[:, 0], cell + 1, self.start)
        self._drop_rows(cell)
        return found

    def _continue(
        self,
        cell: int,
        chosen: Int[Tensor, "r k"],
        values: Float[Tensor, "r k"],
        right: Int[Tensor, "r 1"],
    ) -> None:
        """Let the chosen continuations be the beams."""
        actions, eos = self.policy.vocabulary.actions, self.policy.vocabulary.eos
        parent, token = chosen // actions, chosen % actions
        self.place = (chosen == right).int().argmax(1)
        if eos is not None:
            values = values.masked_fill(token == eos, -torch.inf)
        self.live = values.masked_fill(values.isfinite(), 0) if self.local else values
        index = torch.arange(len(parent), device=parent.device)[:, None]
        self.written = self.written[index, parent]
        self.written[..., cell] = token
        self.inputs = token.flatten()
        self.state = self.state.select((index * self.size + parent).flatten())

    def _drop_rows(self, cell: int) -> None:
        """Drop the rows whose target has ended."""
        stay = (self.batch.lengths[self.rows] > cell + 1).nonzero()[:, 0]
        if 0 < len(stay) < len(self.rows):
            flat = (stay[:, None] * self.size + self.beams).flatten()
            self.rows, self.live, self.written = (
                self.rows[stay],
                self.live[stay],
                self.written[stay],
            )
            self.place, self.start = self.place[stay], self.start[stay]
            self.inputs, self.state = self.inputs[flat], self.state.select(flat)


def compare_scores(
    policy: Policy, batch: Batch, found: Violations, *, local: bool
) -> tuple[Float[Tensor, "v"], Float[Tensor, ""]]:
    """Return s(ŷ) - s(y*) of each violation, with gradient; and 0, with a gradient of 0."""
    cells, inside = found.steps
    reading = read_violations(policy, batch, found)
    numbers = reading.needed.flatten().cumsum(0).view(reading.needed.shape) - 1
    counted = inside & (cells == (found.ends - 1)[:, None]) if local else inside
    # All that is looked up: steps of rivals, steps of targets, and the first of each example.
    rivals = numbers[reading.rows[:, None], reading.columns], found.tokens.gather(1, cells)
    targets = numbers[found.rows[:, None], cells], batch.target[found.rows].gather(1, cells)
    first = numbers[: len(batch.ids), 0], batch.target[:, 0]
    given = (
        torch.cat([one[counted], other[counted], last])
        for one, other, last in zip(rivals, targets, first, strict=True)
    )
    values = look_up_scores(reading, *given, local=local)
    count, zeros = int(counted.sum()), values.new_zeros(counted.shape)
    *both, nothing = values.split([count, count, len(batch.ids)])
    ours, theirs = (zeros.masked_scatter(counted, each).sum(1) for each in both)
    return ours - theirs, 0 * nothing.sum()


def look_up_scores(
    reading: Reading, cells: Int[Tensor, "m"], tokens: Int[Tensor, "m"], *, local: bool
) -> Float[Tensor, "m"]:
    """Return the scores of tokens at needed cells, or their log-probabilities if not `local`.

    Args:
        reading: what was read.
        cells: the number of each cell among those that are needed.
        tokens: the token that is looked up there.
        local: whether scores are not normalized.
    """
    # A table of the tokens of each cell: their places are those in its part of the sorted cells.
    order, counts = cells.argsort(stable=True), torch.bincount(cells)
    starts = counts.cumsum(0) - counts
    place = torch.empty_like(cells)
    place[order] = torch.arange(len(cells), device=cells.device) - starts[cells[order]]
    table = tokens.new_zeros(int(reading.needed.sum()), int(counts.max()))
    table[cells, place] = tokens

    def gather(scores: Tensor, wanted: Tensor) -> Tensor:
        scores = promote_scores(scores)
        return (scores if local else scores.log_softmax(-1)).gather(1, wanted)

    return reading.trace.map_scores(reading.needed, gather, table)[cells, place]


@dataclass(frozen=True)
class Reading:
    """Targets and violations, as the policy read them.

    Attributes:
        trace: what was read; targets are the first rows, from column 0 on.
        needed: the cells whose scores are needed.
        rows: the row of each violation.
        columns: the columns at which its tokens since its start are scored.
    """

    trace: Trace
    needed: Bool[Tensor, "n w"]
    rows: Int[Tensor, "v"]
    columns: Int[Tensor, "v k"]


def read_violations(policy: Policy, batch: Batch, found: Violations) -> Reading:
    """Let the policy read all targets and violations, with gradient and as training reads.

    If the policy reads trees, the violations of an example branch off its target where the search
    started over, so there are at most twice as many inputs as in the targets.
    """
    if policy.reads_trees:
        return _read_trees(policy, batch, found)
    cells, inside = found.steps
    count = len(batch.ids)
    rows = torch.arange(count + len(found.rows), device=cells.device)
    needed = torch.cat([batch.mask, torch.zeros_like(found.tokens, dtype=torch.bool)])
    needed[rows[count:, None].expand_as(cells)[inside], cells[inside]] = True
    sources = torch.cat([rows[:count], found.rows])
    inputs = shift_right(torch.cat([batch.target, found.tokens]), policy.vocabulary.bos)
    trace = policy.force_outputs(batch.source, sources, inputs)
    return Reading(trace, needed, rows[count:], cells)


def _read_trees(policy: Policy, batch: Batch, found: Violations) -> Reading:
    cells, inside = found.steps
    length = batch.target.shape[1]
    # Of the tokens since the start, all but the last are read, in columns behind the target.
    read = inside & (cells < (found.ends - 1)[:, None])
    counts = read.sum(1)
    totals = torch.zeros_like(batch.lengths).index_add(0, found.rows, counts)
    order = found.rows.argsort(stable=True)
    before = torch.empty_like(counts)
    before[order] = counts[order].cumsum(0) - counts[order]
    offsets = length + before - (totals.cumsum(0) - totals)[found.rows]
    width = length + int(totals.max())
    steps = torch.arange(cells.shape[1], device=cells.device)
    columns = torch.where(steps == 0, found.starts[:, None], offsets[:, None] + steps - 1)
    row = found.rows[:, None].expand_as(cells)[read]
    column = (offsets[:, None] + steps)[read]

    inputs = batch.target.new_full((len(batch.ids), width), policy.vocabulary.pad)
    inputs[:, :length] = batch.inputs(policy.vocabulary.bos)
    inputs[row, column] = found.tokens.gather(1, cells)[read]
    parents = torch.full_like(inputs, -1)
    parents[:, :length] = torch.arange(length, device=cells.device) - 1
    parents[row, column] = columns[read]
    needed = torch.zeros_like(inputs, dtype=torch.bool)
    needed[:, :length] = batch.mask
    needed[row, column] = True
    trace = policy.force(batch.source, inputs, parents)
    return Reading(trace, needed, found.rows, columns.clamp(max=width - 1))
