"""SEARNN: learning to search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.costs import CostName
from freerun.decoding import promote_scores, sample_tokens
from freerun.losses import CELL_LOSSES
from freerun.methods.base import NO_MODULES, Clock, Modules, Outcome, refuse_backspace
from freerun.methods.mle import MLE
from freerun.methods.searnn.candidates import (
    Tried,
    best_tokens,
    choose_cells,
    drawn_tokens,
    neighbouring_tokens,
    targeted_tokens,
    uniform_tokens,
)
from freerun.methods.searnn.search import Search
from freerun.methods.searnn.settings import (
    USUAL_ALPHA,
    WITH_ALPHA,
    WITH_SOFTMAX,
    SearchSettings,
    goal_of,
)
from freerun.policy import Policy, Trace
from freerun.randomness import uniform
from freerun.roll_in import Trajectories, roll_in_learned, roll_in_mixed, roll_in_reference
from freerun.roll_out import RollOuts, Trials, TrialSampler
from freerun.tasks.base import Task
from freerun.vocabulary import Vocabulary

ENDLESS = 1 << 30


@dataclass(frozen=True)
class Searched:
    """A batch after its search.

    Attributes:
        roll_in: the prefixes.
        chosen: the cells that were searched.
        tokens: what was tried at each of them, row by row.
        counts: which of these count; no token counts twice.
        costs: what each of them costs, infinite where it does not count.
        outputs: what became of each that counts, in its first roll-out.
    """

    roll_in: Trajectories
    chosen: Bool[Tensor, "b t"]
    tokens: Int[Tensor, "m k"]
    counts: Bool[Tensor, "m k"]
    costs: Float[Tensor, "m k"]
    outputs: RollOuts


@dataclass(frozen=True, kw_only=True)
class SEARNN(SearchSettings):
    """Every token is tried, and its cost in the end becomes a loss on the scores of the cell.

    Leblond, Alayrac, Osokin, Lacoste-Julien 2018, *SEARNN: Training RNNs with Global-Local Losses*,
    arXiv 1706.04499. Costs are constants: the gradient flows through the roll-in pass alone.

    Raises:
        ValueError: where a setting is out of range, missing, or has no effect beside the others.
    """

    name: ClassVar[str] = "searnn"
    paper: ClassVar[str] = "Leblond et al. 2018, arXiv 1706.04499"
    summary: ClassVar[str] = "tries every token, finishes the sentence, and learns from the costs"

    def for_task(self, task: Task) -> SEARNN:
        """This method with the cost of the task, where none was chosen."""
        return self if self.cost is not None else replace(self, cost=cast(CostName, task.cost))

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """The losses of all cells searched, over the target tokens.

        Raises:
            ValueError: where an example has no target, cost and reference policy do not suit each
                other or the vocabulary, or a cost is not finite.
        """
        if clock.step < self.warm_up * clock.total:
            self.check(policy.vocabulary)
            return MLE().loss(policy, batch, clock)
        batch.target_tokens()
        found = self.search(policy, batch, clock)
        trace = policy.force(batch.source, found.roll_in.inputs(policy.vocabulary.bos))
        scores = promote_scores(trace.logits(found.chosen))
        losses = self._losses(scores, found, batch, clock)
        count = batch.mask.sum()
        total = (losses * self._weights(found, count).to(losses.dtype)).sum()
        return Outcome(total, count, self._metrics(scores, found))

    @torch.no_grad()
    def search(self, policy: Policy, batch: Batch, clock: Clock) -> Searched:
        """What each token would cost at each cell of the roll-in.

        Raises:
            ValueError: where cost and reference policy do not suit each other or the vocabulary, or
                a cost is not finite.
        """
        search = self._search(policy, batch)
        roll_in = self._roll_in(search, clock)
        trace = search.read(roll_in)
        named = (clock.seed, "cells", clock.step)
        chosen = choose_cells(roll_in.mask, self.cell_choice, self.cells, batch.ids, *named)
        rows, cells = chosen.nonzero().unbind(1)
        tokens, counts = self._tokens(search, roll_in, trace, chosen, clock)
        place = torch.arange(len(rows), device=rows.device)[:, None].expand_as(tokens)[counts]
        trials = Trials(rows, cells, place, tokens[counts])
        found, outputs = self._costs(search, trace, roll_in, trials, clock)
        costs = found.new_full(tokens.shape, torch.inf)
        costs[counts] = found
        return Searched(roll_in, chosen, tokens, counts, costs, outputs)

    def check(self, vocabulary: Vocabulary) -> None:
        """See that cost and reference policy suit each other and outputs of this vocabulary.

        Nothing is withdrawn in a search, so there may be no backspace.

        Raises:
            ValueError: where they do not.
        """
        refuse_backspace(vocabulary, self.name)
        goal_of(self, vocabulary)

    def _search(self, policy: Policy, batch: Batch) -> Search:
        cost, reference = goal_of(self, policy.vocabulary)
        longest = (batch.lengths * self.stretch).clamp(max=ENDLESS).ceil().long()
        limit = torch.minimum(policy.limit(batch.source), longest)
        limit = torch.maximum(limit, batch.lengths)
        precision = torch.bfloat16 if self.roll_out_precision == "bfloat16" else None
        return Search(policy, batch, cost, reference, limit, precision)

    def _roll_in(self, search: Search, clock: Clock) -> Trajectories:
        policy, batch = search.policy, search.batch
        share = 0.5 if self.roll_in_share is None else self.roll_in_share
        if self.roll_in == "reference":
            return roll_in_reference(batch)
        if self.roll_in == "mixed_cells":
            cells = torch.arange(int(search.limit.max()), device=batch.ids.device)
            coins = uniform(clock.seed, "roll_in", clock.step, batch.ids[:, None], cells)
            return roll_in_mixed(policy, batch, coins >= share, search.limit, search.next_token)
        own = torch.ones_like(batch.ids, dtype=torch.bool)
        if self.roll_in == "mixed":
            own = uniform(clock.seed, "roll_in", clock.step, batch.ids) >= share
        return roll_in_learned(policy, batch, own, search.limit)

    def _tokens(
        self,
        search: Search,
        roll_in: Trajectories,
        trace: Trace,
        chosen: Bool[Tensor, "b t"],
        clock: Clock,
    ) -> Tried:
        """What is tried at each chosen cell."""
        batch, actions = search.batch, search.policy.vocabulary.actions
        rows, cells = chosen.nonzero().unbind(1)
        if self.token_choice == "all" or self.tokens is None:
            every = torch.arange(actions, device=rows.device)
            tokens = every.expand(len(rows), -1)
            return tokens, torch.ones_like(tokens, dtype=torch.bool)
        reference = search.next_token(roll_in.tokens[rows], cells, rows)
        count = self.tokens
        named = (clock.seed, "tokens", clock.step, batch.ids[rows], cells)
        if self.token_choice == "uniform":
            return uniform_tokens(actions, reference, count, *named)
        scores = trace.logits(chosen)
        if self.token_choice == "top_k":
            return best_tokens(scores, reference, count)
        if self.token_choice == "targeted":
            return targeted_tokens(scores, reference, count, 0.5 if self.gap is None else self.gap)
        if self.token_choice == "neighbours":
            targets, lengths = batch.target[rows], batch.lengths[rows]
            near = self.around
            return neighbouring_tokens(scores, reference, targets, lengths, cells, count, near)
        power = 1.0
        if self.token_choice == "biased":
            power = 0.5 if self.bias is None else self.bias
        return drawn_tokens(scores, reference, count, power, *named)

    def _most(self, batch: Batch, clock: Clock) -> Int[Tensor, "b"]:
        """How many tokens the policy may write in a roll-out of each sentence."""
        if self.roll_out == "focused":
            start = 1 if self.focus is None else self.focus
            end = start if self.focus_end is None else self.focus_end
            done = min(clock.step / clock.total, 1.0)
            return torch.full_like(batch.ids, round(start + done * (end - start)))
        if self.roll_out == "mixed":
            share = 0.5 if self.roll_out_share is None else self.roll_out_share
            own = uniform(clock.seed, "roll_out", clock.step, batch.ids) >= share
            return own * ENDLESS
        return torch.full_like(batch.ids, ENDLESS if self.roll_out == "learned" else 0)

    def _costs(
        self,
        search: Search,
        trace: Trace,
        roll_in: Trajectories,
        trials: Trials,
        clock: Clock,
    ) -> tuple[Float[Tensor, "n"], RollOuts]:
        """The cost of each trial, averaged where it is rolled out several times."""
        most = self._most(search.batch, clock)
        rows = trials.rows[trials.place]
        draw = None if self.writing == "greedy" else self._draw(search.batch, trials, 0, clock)
        outputs = search.outputs(trace, roll_in, trials, most, draw, self.at_once)
        costs = search.costs(outputs, rows)
        if self.roll_outs == 1:
            return costs, outputs
        # Only what the policy writes differs from one roll-out to the next.
        again = (most[rows] > 0).nonzero()[:, 0]
        few = trials.select(again)
        for repetition in range(1, self.roll_outs):
            draw = self._draw(search.batch, few, repetition, clock)
            more = search.outputs(trace, roll_in, few, most, draw, self.at_once)
            costs[again] += search.costs(more, rows[again])
            outputs = replace(outputs, steps=outputs.steps + more.steps)
        costs[again] /= self.roll_outs
        return costs, outputs

    def _draw(self, batch: Batch, trials: Trials, repetition: int, clock: Clock) -> TrialSampler:
        """Samples of the policy, by numbers named for each trial."""
        rows, cells = trials.rows[trials.place], trials.cells[trials.place]
        tokens = torch.zeros_like(trials.tokens) if self.common_numbers else trials.tokens

        def draw(
            scores: Float[Tensor, "n a"], which: Int[Tensor, "n"], at: Int[Tensor, "n"]
        ) -> Int[Tensor, "n"]:
            named = (clock.seed, "sampled roll_out", clock.step, repetition)
            where = (batch.ids[rows[which]], cells[which], tokens[which], at)
            return sample_tokens(promote_scores(scores).log_softmax(-1), *named, *where)

        return draw

    def _losses(
        self, scores: Float[Tensor, "m a"], found: Searched, batch: Batch, clock: Clock
    ) -> Float[Tensor, "m"]:
        """The loss of each cell."""
        options: dict[str, object] = {}
        if self.cell_loss in WITH_ALPHA:
            options["alpha"] = USUAL_ALPHA if self.alpha is None else self.alpha
        if self.cell_loss in WITH_SOFTMAX:
            options["all_labels"] = self.all_labels
        tokens, costs, counts = found.tokens, found.costs, found.counts
        if self.all_labels:
            wide = costs.new_full(scores.shape, torch.inf)
            costs = wide.scatter_reduce(1, tokens, costs, "amin")
            counts = costs.isfinite()
            tokens = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
        elif self.token_choice != "all":
            scores = scores.gather(1, tokens)
        if self.cell_loss in ("ll", "llcas", "structured_hinge"):
            rows, cells = found.chosen.nonzero().unbind(1)
            where = (batch.ids[rows, None], cells[:, None], tokens)
            options["ties"] = uniform(clock.seed, "ties", clock.step, *where)
        return CELL_LOSSES[self.cell_loss](scores, costs, counts, **options)

    def _weights(self, found: Searched, count: Int[Tensor, ""]) -> Float[Tensor, "m"]:
        """What each cell counts: those that were chosen stand for those that were not."""
        searched, there = found.chosen.sum(1).double(), found.roll_in.lengths
        weights = there / searched
        if self.normalisation == "sentences":
            weights = weights * count / (len(there) * there)
        return weights[found.chosen.nonzero()[:, 0]]

    @staticmethod
    def _metrics(scores: Float[Tensor, "m a"], found: Searched) -> dict[str, Tensor]:
        """How the search went, and what the policy's choices among the tried tokens still cost."""
        tried = scores.detach().gather(1, found.tokens).masked_fill(~found.counts, -torch.inf)
        chosen = found.costs.gather(1, tried.argmax(1, keepdim=True))[:, 0]
        return {
            "regret": (chosen - found.costs.amin(1)).mean(),
            "least_cost": found.costs.amin(1).mean(),
            "decoder_steps": torch.tensor(float(found.outputs.steps)),
        }
