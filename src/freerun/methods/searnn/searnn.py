"""SEARNN: learning to search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.costs import Cost
from freerun.data import Codec
from freerun.decoding import promote_scores
from freerun.imports import is_address
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
from freerun.methods.samples import check_cost, find_limits, resolve_cost
from freerun.methods.searnn.candidates import AllTokens, Candidates, Cells
from freerun.methods.searnn.cell_losses import CellLoss, KLLoss, ScaledLoss
from freerun.methods.searnn.rolls import (
    ChosenRollIn,
    MixedRollOut,
    RollIn,
    RollInByCost,
    RollOut,
)
from freerun.methods.searnn.search import Search
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy
from freerun.randomness import uniform
from freerun.references import DEFAULT_REFERENCES, Reference, ReferenceName, make_reference
from freerun.roll_out import RollOuts, Trials
from freerun.tasks.base import Task
from freerun.trajectories import Trajectories
from freerun.vocabulary import Vocabulary

FIXED_LENGTH_REFERENCES = ("copy", "max_f1")


@dataclass(frozen=True)
class SearchResult:
    """A batch after its search.

    Attributes:
        roll_in: the prefixes.
        cells: true on the cells that were searched.
        tokens: the tokens that were tried at each cell, row by row.
        mask: true on the tokens that count; no token counts twice.
        costs: the cost of each token; infinite if it does not count.
        outputs: the whole sentence of each token that counts.
    """

    roll_in: Trajectories
    cells: Bool[Tensor, "b t"]
    tokens: Int[Tensor, "m k"]
    mask: Bool[Tensor, "m k"]
    costs: Float[Tensor, "m k"]
    outputs: RollOuts


MAX_TRIED = 10_000
"""The maximum number of tokens of which all are tried with roll-outs by the policy."""


@dataclass(frozen=True, kw_only=True)
class SEARNN(Method):
    """Tries every token, and trains the scores of the cell on the costs of the outputs.

    Leblond, Alayrac, Osokin, Lacoste-Julien 2018, *SEARNN: Training RNNs with Global-Local Losses*,
    arXiv 1706.04499. Costs are constants: the gradient flows through the roll-in pass alone.

    Args:
        roll_in: where prefixes come from: the `reference` (teacher forcing), the policy itself
            (`learned`, greedily), either by a coin for each sentence (`mixed`), or either by a coin
            for each cell (`mixed_cells`). By default (`by_cost`), the reference if the cost
            is `bleu`, `bleu_1` or `gleu`, and the policy otherwise.
        roll_out: what completes a sentence after a token was tried: the `reference` policy, the
            policy itself (`learned`, greedily), either by a coin for each sentence (`mixed`), or
            the policy for a few tokens and then the reference policy (`focused`).
        cost: Δ, the cost of an output: one of `freerun.costs`, a metric of texts such as wer, or
            the address of a function of either kind, `package.module:function`; by default the cost
            of the task. In Python also the function: a `freerun.costs.Cost`, a
            `freerun.costs.PythonCost`, or a `freerun.metrics.Metric`.
        reference: the reference policy; by default the one that matches the cost.
        candidates: which cells are searched, and which tokens are tried there.
        cell_loss: the loss of a cell, given its scores and costs; see `freerun.losses`.
        warm_up: the fraction of updates, at the start of training, that are maximum likelihood; in
            [0, 1).
        stretch: the maximum length of a sequence, as a multiple of the target with its eos; at
            least 1.

    Raises:
        ValueError: if a setting is out of range, or has no effect.
    """

    name: ClassVar[str] = "searnn"
    paper: ClassVar[str] = "Leblond et al. 2018, arXiv 1706.04499"
    summary: ClassVar[str] = "tries every token, completes the sentence, and learns from its cost"

    roll_in: RollIn = field(default_factory=RollInByCost)
    roll_out: RollOut = field(default_factory=MixedRollOut)
    cost: str | Cost | None = None
    reference: ReferenceName | None = None
    candidates: Candidates = field(default_factory=Candidates)
    cell_loss: CellLoss = field(default_factory=KLLoss)
    warm_up: float = 0.0
    stretch: float = 1.5

    def __post_init__(self) -> None:
        """Check the ranges, and that every setting has an effect."""
        check_cost(self.cost)
        if self.reference is not None:
            check_choice("reference", self.reference, ReferenceName)
            if not self.uses_reference:
                raise ValueError("reference has no effect here; no reference policy is used")
        check_range("stretch", self.stretch, 1)
        if self.stretch != type(self).stretch and not self.uses_policy:
            raise ValueError(
                "stretch has no effect here; it needs a roll_in or roll_out by the policy"
            )
        check_warm_up(self.warm_up)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The warm-up, the scale of costs, and the share of the reference in roll-outs."""
        space: dict[str, Space] = {"warm_up": Range(0.0, 0.5)}
        if isinstance(self.cell_loss, ScaledLoss):
            space["cell_loss.alpha"] = Range(1.0, 1000.0, log=True)
        if isinstance(self.roll_out, MixedRollOut):
            space["roll_out.share"] = Range(0.0, 1.0)
        return space

    @property
    def chosen_roll_in(self) -> ChosenRollIn:
        """The roll-in that is used, which for `by_cost` depends on the cost."""
        roll_in = self.roll_in
        return roll_in.choose(self.cost) if isinstance(roll_in, RollInByCost) else roll_in

    @property
    def uses_policy(self) -> bool:
        """Whether the policy writes anything."""
        return self.chosen_roll_in.uses_policy or self.roll_out.uses_policy

    @property
    def uses_reference(self) -> bool:
        """Whether the reference policy is used."""
        askers = (self.chosen_roll_in, self.roll_out, self.candidates.tokens)
        return any(asker.uses_reference for asker in askers)

    def for_task(self, task: Task) -> SEARNN:
        """Return this method with the cost of the task, if none was chosen."""
        return self if self.cost is not None else replace(self, cost=task.cost)

    def for_codec(self, codec: Codec) -> SEARNN:
        """Return this method with a metric of texts as a cost of tokens, if it is the cost."""
        return replace(self, cost=bind_cost(self.cost, codec))

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that cost, reference policy and vocabulary are compatible.

        Nothing is withdrawn in a search, so there may be no backspace.

        Raises:
            ValueError: if they are not, or the policy would finish too many outputs.
        """
        refuse_backspace(vocabulary, self.name)
        every = isinstance(self.candidates.tokens, AllTokens) and self.roll_out.uses_policy
        if every and vocabulary.actions > MAX_TRIED:
            raise ValueError(
                f"searnn would finish {vocabulary.actions:,} outputs at every cell, one for every "
                "token; let it try fewer, such as searnn:token_choice=top_k,tokens=5,cells=4"
            )
        self.resolve_cost(vocabulary)

    def resolve_cost(self, vocabulary: Vocabulary) -> tuple[Cost, Reference]:
        """Return the cost and the reference policy for outputs of a vocabulary.

        Raises:
            ValueError: if one is missing or cannot be imported, or they do not match each other
                or the vocabulary.
        """
        cost, reference = resolve_cost(self.cost, vocabulary, "SEARNN"), self.reference
        if isinstance(self.cost, str) and not is_address(self.cost):
            reference = reference or DEFAULT_REFERENCES[self.cost]
        if not self.uses_reference:
            reference = "copy"
        if reference is None:
            raise ValueError("SEARNN.reference is None: name the one that matches your cost")
        if vocabulary.eos is None and reference not in FIXED_LENGTH_REFERENCES:
            raise ValueError(
                f"reference={reference} ends at any length, but these outputs are as long as their "
                f"sources: use {' or '.join(FIXED_LENGTH_REFERENCES)}"
            )
        return cost, make_reference(reference, vocabulary.symbols, vocabulary.unknown)

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the loss of the searched cells, divided by the number of target tokens.

        Raises:
            ValueError: if an example has no target, cost and reference policy do not match each
                other or the vocabulary, or a cost is not finite.
        """
        if clock.step < self.warm_up * clock.total:
            self.check(policy.vocabulary)
            return MLE().loss(policy, batch, clock)
        batch.target_tokens()
        found = self.search(policy, batch, clock)
        trace = policy.force(batch.source, found.roll_in.inputs(policy.vocabulary.bos))
        # The searched cells of a sentence are weighted to stand for all of its cells.
        weights = found.roll_in.lengths / found.cells.sum(1).double()
        every = isinstance(self.candidates.tokens, AllTokens)
        parts: list[Float[Tensor, "k t"]] = []

        def compute(
            scores: Tensor, cells: Tensor, tokens: Tensor, costs: Tensor, mask: Tensor
        ) -> Tensor:
            scores = promote_scores(scores)
            tried = scores if every else scores.gather(1, tokens)
            parts.append(tried.detach())
            row, cell = cells.unbind(1)

            def draw_ties() -> Float[Tensor, "k t"]:
                where = (batch.ids[row, None], cell[:, None], tokens)
                return uniform(clock.seed, "ties", clock.step, *where)

            losses = self.cell_loss.compute(tried, costs, mask, draw_ties)
            return (losses * weights[row].to(losses.dtype)).sum()

        given = found.cells.nonzero(), found.tokens, found.costs, found.mask
        total = trace.sum_loss(found.cells, compute, *given)
        return Outcome(total, batch.mask.sum(), _compute_metrics(torch.cat(parts), found))

    @torch.no_grad()
    def search(self, policy: Policy, batch: Batch, clock: Clock) -> SearchResult:
        """Compute the cost of each token at each cell of the roll-in.

        Raises:
            ValueError: if cost and reference policy do not match each other or the vocabulary, or
                a cost is not finite.
        """
        search = self._start_search(policy, batch)
        roll_in = self.chosen_roll_in.write(search, clock)
        trace = search.read(roll_in)
        chosen = self.candidates.choose_cells(roll_in.mask, batch.ids, clock)
        cells = Cells(chosen, search, roll_in, trace, clock)
        tokens, mask = self.candidates.tokens.choose(cells)
        rows = cells.rows
        place = torch.arange(len(rows), device=rows.device)[:, None].expand_as(tokens)[mask]
        trials = Trials(rows, cells.positions, place, tokens[mask])
        outputs = self.roll_out.run(search, trace, roll_in, trials, clock)
        found = search.compute_costs(outputs, rows[place])
        costs = found.new_full(tokens.shape, torch.inf)
        costs[mask] = found
        return SearchResult(roll_in, chosen, tokens, mask, costs, outputs)

    def _start_search(self, policy: Policy, batch: Batch) -> Search:
        cost, reference = self.resolve_cost(policy.vocabulary)
        limit = find_limits(policy, batch, self.stretch)
        return Search(policy, batch, cost, reference, limit)


def _compute_metrics(tried: Float[Tensor, "m k"], found: SearchResult) -> dict[str, Tensor]:
    """Compute metrics: the costs of the policy's choices, and the number of decoder steps."""
    tried = tried.masked_fill(~found.mask, -math.inf)
    chosen = found.costs.gather(1, tried.argmax(1, keepdim=True))[:, 0]
    return {
        "regret": (chosen - found.costs.amin(1)).mean(),
        "least_cost": found.costs.amin(1).mean(),
        "decoder_steps": torch.tensor(float(found.outputs.steps)),
    }
