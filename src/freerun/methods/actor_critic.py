"""Actor-critic: a critic that reads the reference estimates the cost of every next token."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Batch, Source, shift_right
from freerun.costs import Cost
from freerun.costs.rows import length_mask
from freerun.decoding import promote_scores
from freerun.methods.base import (
    NO_MODULES,
    Clock,
    Modules,
    Outcome,
    check_range,
    copy_delayed,
    move_parameters,
)
from freerun.methods.mle import MLE
from freerun.methods.samples import (
    CostMethod,
    Samples,
    add_parameters,
    check_positive,
    draw_samples,
    resolve_cost,
    weigh_by_length,
)
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy, Trace
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class ActorCritic(CostMethod):
    """Σ_t Σ_a p(a|y_{<t})·Q(a; y_{<t}, y*), where Q estimates the cost that is still to come.

    Bahdanau, Brakel, Xu, Goyal, Lowe, Pineau, Courville, Bengio 2017, *An Actor-Critic Algorithm
    for Sequence Prediction*, arXiv 1607.07086, algorithm 1. The critic Q is a recurrent
    encoder-decoder that reads the reference, then own tokens. It learns from differences of the
    costs of prefixes.

    Args:
        samples: the number of samples of each example; at least 1.
        pretraining: the fraction of the warm-up, at its end, in which the critic learns, too; in
            [0, 1].
        target_rate: the share by which the delayed model and the delayed critic move to the current
            ones after every update; in [0, 1]. With 1, they are the current ones.
        penalty: λ_C, the weight of the variance of Q over tokens; at least 0.
        log_loss: λ_LL, the weight of the log loss of the targets after the warm-up; at least 0.
        critic_size: the hidden size of the critic; at least 1.
        critic_rate: the learning rate of the critic; finite and above 0. The schedule of the run
            scales it.

    Raises:
        ValueError: if a setting is out of range.
    """

    name: ClassVar[str] = "actor_critic"
    paper: ClassVar[str] = "Bahdanau et al. 2017, arXiv 1607.07086"
    summary: ClassVar[str] = "lowers the cost to come of all tokens, which a critic estimates"

    samples: int = 1
    pretraining: float = 0.5
    target_rate: float = 0.01
    penalty: float = 0.001
    log_loss: float = 0.0
    critic_size: int = 128
    critic_rate: float = 0.001

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("samples", self.samples, 1)
        check_range("pretraining", self.pretraining, 0, 1)
        check_range("target_rate", self.target_rate, 0, 1)
        check_range("penalty", self.penalty, 0)
        check_range("log_loss", self.log_loss, 0)
        check_range("critic_size", self.critic_size, 1)
        check_positive("critic_rate", self.critic_rate)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """How fast delayed networks move, the log loss, and the warm-up."""
        return {
            "target_rate": Range(1e-3, 0.3, log=True),
            "log_loss": Range(0.0, 1.0),
            "warm_up": Range(0.1, 0.9),
        }

    def build_modules(self, policy: Policy) -> Modules:
        """Build the critic, which is 0 at first, and the delayed networks."""
        critic = build_critic(policy, self.critic_size)
        delayed = copy_delayed(policy, self.target_rate)
        frozen = {"delayed_policy": delayed, "delayed_critic": copy.deepcopy(critic)}
        return Modules({"critic": critic}, frozen, {"critic": self.critic_rate})

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the loss; in the pretraining of the critic, log loss and its error.

        Every parameter contributes, if only zero: data parallelism looks at the first update to see
        whether parameters are unused.
        """
        outcome = super().loss(policy, batch, clock, modules)
        if self._find_start(clock) <= clock.step < self.warm_up * clock.total:
            cost = resolve_cost(self.cost, policy.vocabulary, type(self).__name__)
            found = self.judge(batch, clock, modules, cost)
            total = outcome.total + found.error.to(outcome.total.dtype)
            outcome = replace(outcome, total=total, metrics={**outcome.metrics, **found.metrics})
        return add_parameters(outcome, modules)

    def learn_costs(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules, cost: Cost
    ) -> Outcome:
        """Compute the mean cost of the samples of each example, with the gradient by the critic."""
        found = self.judge(batch, clock, modules, cost)
        own, numbers = found.samples, torch.arange(found.cells, device=batch.target.device)

        def expect(scores: Tensor, numbers: Tensor) -> Tensor:
            with torch.no_grad():
                values = found.trace.some_logits(own.mask, numbers)
            return expect_values(scores, values).sum()

        expected = own.read(policy, batch).sum_loss(own.mask, expect, numbers)
        total = found.costs.sum().to(expected.dtype) + expected - expected.detach()
        total = total / self.samples + found.error.to(total.dtype)
        if self.log_loss > 0:
            total = total + self.log_loss * MLE().loss(policy, batch, clock).total
        return Outcome(total, batch.mask.sum(), found.metrics)

    def judge(self, batch: Batch, clock: Clock, modules: Modules, cost: Cost) -> Judgment:
        """Let the delayed policy sample, and the critic estimate the costs of all next tokens."""
        actor, critic, delayed = (
            modules.get_policy(name) for name in ("delayed_policy", "critic", "delayed_critic")
        )
        own = draw_samples(actor, batch, self.samples, clock, stretch=self.stretch)
        costs = compute_prefix_costs(own, batch, critic.vocabulary, cost)
        trace, tokens = read_critic(critic, own, batch), own.tokens[own.mask]
        with torch.no_grad():
            later = read_critic(delayed, own, batch)

            def expect(scores: Tensor, numbers: Tensor) -> Tensor:
                return expect_values(scores, later.some_logits(own.mask, numbers))

            numbers = torch.arange(len(tokens), device=tokens.device)
            expected = own.read(actor, batch).map_scores(own.mask, expect, numbers)
            targets = find_targets(own, costs, expected.to(costs.dtype))
        errors, spread = trace.map_scores(own.mask, measure_values, tokens, targets).unbind(1)
        error = (errors + self.penalty * spread).sum() / self.samples
        per_row = torch.zeros_like(costs[:, 0]).to(errors.dtype)
        per_row = per_row.index_add(0, own.mask.nonzero()[:, 0], errors.detach()) / own.mask.sum(1)
        final = costs.gather(1, own.mask.sum(1)[:, None])[:, 0]
        metrics = {
            name: weigh_by_length(each.view(-1, self.samples).mean(1), batch)
            for name, each in (("cost", final), ("td_error", per_row))
        }
        # Its value is not part of the loss that is logged.
        return Judgment(own, len(tokens), final, trace, error - error.detach(), metrics)

    def after_update(self, policy: Policy, clock: Clock, modules: Modules = NO_MODULES) -> None:
        """Move the delayed networks, which are the current ones when the critic begins to learn."""
        start, done = self._find_start(clock), clock.step + 1
        if done < start:
            return
        rate = 1.0 if done == start else self.target_rate
        move_parameters(modules["delayed_policy"], policy, rate)
        move_parameters(modules["delayed_critic"], modules["critic"], rate)

    def _find_start(self, clock: Clock) -> int:
        """Return the first update in which the critic learns."""
        return math.ceil((1 - self.pretraining) * self.warm_up * clock.total)


@dataclass(frozen=True)
class Judgment:
    """Samples of the delayed policy, and what the critic says about them.

    Attributes:
        samples: the samples.
        cells: the number of their tokens.
        costs: the cost of each.
        trace: of the critic, whose scores at the cells of the samples are Q of every action.
        error: the loss of the critic, of value 0.
        metrics: the cost and the error, to log.
    """

    samples: Samples
    cells: int
    costs: Float[Tensor, "n"]
    trace: Trace
    error: Float[Tensor, ""]
    metrics: dict[str, Tensor]


def build_critic(policy: Policy, size: int) -> Policy:
    """Return a recurrent encoder-decoder from references to a value of each action, 0 at first."""
    from freerun.models import RecurrentConfig, RecurrentPolicy  # which only this method needs

    words = policy.vocabulary
    config = RecurrentConfig.from_vocabulary(
        words,
        factors=(words.size,),
        limit=None if words.eos is None else 1,  # it writes nothing
        hidden_size=size,
        embedding_size=size,
        bidirectional=True,
        attention="general",
    )
    critic = RecurrentPolicy(config)
    torch.nn.init.zeros_(critic.output.weight)
    torch.nn.init.zeros_(critic.output.bias)
    dtype = next((parameter.dtype for parameter in policy.parameters()), torch.float32)
    return critic.to(torch.promote_types(dtype, torch.float32))


def read_critic(critic: Policy, own: Samples, batch: Batch) -> Trace:
    """Return a trace whose scores are Q of every action; references are read once."""
    inputs = shift_right(own.tokens, critic.vocabulary.bos)
    return critic.force_outputs(Source(batch.target, batch.mask), own.rows, inputs)


def expect_values(scores: Float[Tensor, "k a"], values: Float[Tensor, "k a"]) -> Float[Tensor, "k"]:
    """Return Σ_a p(a)·Q(a) at some cells, given the scores of the actor and Q."""
    probabilities = promote_scores(scores).log_softmax(-1).exp()
    return (probabilities * promote_scores(values).to(probabilities.dtype)).sum(1)


def measure_values(
    scores: Float[Tensor, "k a"], tokens: Int[Tensor, "k"], targets: Float[Tensor, "k"]
) -> Float[Tensor, "k 2"]:
    """Return the squared error of Q of the token of each cell, and the variance of Q."""
    values = promote_scores(scores)
    chosen = values.gather(1, tokens[:, None])[:, 0]
    spread = (values - values.mean(1, keepdim=True)).square().sum(1)
    return torch.stack([(chosen - targets.to(values.dtype)).square(), spread], 1)


def compute_prefix_costs(
    own: Samples, batch: Batch, vocabulary: Vocabulary, cost: Cost
) -> Float[Tensor, "n p"]:
    """Return the cost of the first 0 … t tokens of each sample; 0 after its end.

    If outputs are as long as their targets, the rest of a prefix is that of the target.

    Raises:
        ValueError: if there is not one cost for each, or one is not finite.
    """
    lengths, width = own.mask.sum(1), own.mask.shape[1]
    inside = length_mask(width + 1, lengths + 1)
    rows, counts = inside.nonzero(as_tuple=True)
    tokens, mask = own.tokens[rows], length_mask(width, counts)
    if vocabulary.eos is None:
        tokens = tokens.where(mask, batch.target[own.rows[rows], :width])
        mask = own.mask[rows]
    prefixes = Samples(own.rows[rows], tokens, mask)
    found = prefixes.compute_costs(batch, vocabulary, cost)
    return found.new_zeros(inside.shape).masked_scatter(inside, found)


def find_targets(
    own: Samples, costs: Float[Tensor, "n p"], expected: Float[Tensor, "m"]
) -> Float[Tensor, "m"]:
    """Return r_t + Σ_a p(a|y_{≤t})·Q(a; y_{≤t}) at every cell of samples, row by row.

    Args:
        own: the samples.
        costs: the costs of their prefixes, of which r_t are the differences.
        expected: Σ_a p(a|y_{<t})·Q(a; y_{<t}) at every cell; after the last cell it is 0.
    """
    after = expected.new_zeros(own.mask.shape).masked_scatter(own.mask, expected)
    after = torch.cat([after[:, 1:], torch.zeros_like(after[:, :1])], 1)
    return (costs.diff(dim=1) + after)[own.mask]
