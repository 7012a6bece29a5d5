"""Policy gradients on the costs of own samples: REINFORCE with several baselines, and MIXER."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from accelerate.utils import gather_object
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from freerun.batch import Batch
from freerun.costs import Cost
from freerun.losses import leave_one_out, policy_gradient
from freerun.methods.base import (
    NO_MODULES,
    Clock,
    Modules,
    Outcome,
    check_choice,
    check_range,
)
from freerun.methods.samples import (
    CostMethod,
    add_parameters,
    draw_samples,
    weigh_by_length,
    write_greedily,
)
from freerun.methods.tuning import Choice, Range, Space
from freerun.policy import Policy, Trace

BaselineName = Literal["none", "mean", "greedy", "leave_one_out", "learned"]


@dataclass
class MovingMean:
    """The moving mean of the costs of earlier updates.

    Costs are held back until the end of the update, so all batches of an update see the same mean.

    Attributes:
        total: the weighted sum of the mean costs of updates.
        weight: the sum of the weights, which approaches 1.
        waiting: sums and numbers of costs in this update, in this process.
    """

    total: float = 0.0
    weight: float = 0.0
    waiting: list[tuple[float, int]] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The mean; 0 before the first update."""
        return self.total / self.weight if self.weight else 0.0

    def add(self, costs: Float[Tensor, "n"]) -> None:
        """Add costs, which are held back until the end of the update."""
        self.waiting.append((float(costs.sum()), len(costs)))

    def commit(self, decay: float) -> None:
        """Move the mean by the costs of this update, over all processes."""
        found = gather_object(self.waiting)
        self.waiting = []
        count = sum(number for _, number in found)
        if count:
            mean = math.fsum(total for total, _ in found) / count
            self.total = decay * self.total + (1 - decay) * mean
            self.weight = decay * self.weight + (1 - decay)


@dataclass(frozen=True, kw_only=True)
class Reinforce(CostMethod):
    """The expected cost of own samples, lowered by its policy gradient Σ_t (Δ - b)·∇log p(y_t).

    Williams 1992, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
    Learning*, Machine Learning 8. The baseline b lowers the variance of the gradient, and does not
    change its mean.

    Args:
        samples: the number of samples of each example; at least 1, and at least 2 with
            baseline=leave_one_out.
        baseline: b: `none`; the moving `mean` of the costs of earlier updates; the cost of the
            `greedy` output of the example (self-critical training, Rennie et al. 2017, arXiv
            1612.00563); the mean cost of the other samples of the example (`leave_one_out`, Kool et
            al. 2019); or `learned`, a linear function of the hidden state at each cell (Ranzato et
            al. 2016, arXiv 1511.06732).
        decay: for baseline=mean only, the weight of earlier updates in the mean; in [0, 1) (default
            0.99).

    Raises:
        ValueError: if a setting is out of range, or has no effect.
    """

    name: ClassVar[str] = "reinforce"
    paper: ClassVar[str] = "Williams 1992, Machine Learning 8 (REINFORCE; SCST and RLOO)"
    summary: ClassVar[str] = "lowers the expected cost of own samples by its policy gradient"

    samples: int = 4
    baseline: BaselineName = "leave_one_out"
    decay: float | None = None
    mean: MovingMean = field(init=False, default_factory=MovingMean, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the ranges, and that every setting has an effect."""
        super().__post_init__()
        check_choice("baseline", self.baseline, BaselineName)
        check_range("samples", self.samples, 1)
        if self.baseline == "leave_one_out" and self.samples < 2:
            raise ValueError(f"samples is {self.samples}; baseline=leave_one_out needs at least 2")
        if self.decay is not None and self.baseline != "mean":
            raise ValueError(f"decay has no effect on baseline={self.baseline}; leave it out")
        if self.decay is not None and not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}; it must lie in [0, 1)")

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The baseline, and the warm-up."""
        names: tuple[str, ...] = ("mean", "greedy", "learned")
        if self.samples > 1:
            names += ("leave_one_out",)
        return {"baseline": Choice(names), "warm_up": Range(0.1, 0.9)}

    def build_modules(self, policy: Policy) -> Modules:
        """Build the learned baseline, which is 0 at first."""
        if self.baseline != "learned":
            return Modules()
        dtype = next((parameter.dtype for parameter in policy.parameters()), torch.float32)
        layer = nn.Linear(policy.hidden_size, 1, dtype=torch.promote_types(dtype, torch.float32))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return Modules({"baseline": layer})

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the loss, to which every parameter contributes, if only zero in the warm-up.

        Data parallelism looks at the first update to see whether parameters are unused.
        """
        return add_parameters(super().loss(policy, batch, clock, modules), modules)

    def given_tokens(self, batch: Batch, clock: Clock) -> Int[Tensor, "b"] | None:
        """Return how many tokens of each target are learned before own ones; None for none."""
        return None

    def learn_costs(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules, cost: Cost
    ) -> Outcome:
        """Compute the mean cost of the samples of each example, with its policy gradient."""
        given, count = self.given_tokens(batch, clock), self.samples
        drawn = draw_samples(policy, batch, count, clock, stretch=self.stretch, given=given)
        costs = drawn.compute_costs(batch, policy.vocabulary, cost)
        trace = drawn.read(policy, batch)
        log_probs = drawn.log_probs(trace)
        own = drawn.mask
        if given is not None:
            own = own & (torch.arange(own.shape[1], device=own.device) >= given[drawn.rows, None])
        if self.baseline == "learned":
            baselines = estimate_costs(modules["baseline"], trace, drawn.mask)
        else:
            constant = self._compute_baselines(policy, batch, given, costs, cost)
            baselines = constant[:, None].expand_as(log_probs).to(log_probs.dtype)
        total = policy_gradient(log_probs, costs.to(log_probs.dtype), baselines, own).sum()
        if given is not None:
            total = total - log_probs.masked_fill(own, 0).sum()
        if self.baseline == "learned":
            errors = (baselines - costs[:, None]).square().masked_fill(~own, 0).sum(1)
            error = (errors / own.sum(1).clamp(min=1)).sum()
            # Its value is not part of the loss that is logged.
            total = total + (error - error.detach()).to(total.dtype)
        means = baselines.detach().masked_fill(~own, 0).sum(1) / own.sum(1).clamp(min=1)
        metrics = {
            name: weigh_by_length(values.view(-1, count).mean(1), batch)
            for name, values in (("cost", costs), ("baseline", means))
        }
        return Outcome(total / count, batch.mask.sum(), metrics)

    def _compute_baselines(
        self,
        policy: Policy,
        batch: Batch,
        given: Int[Tensor, "b"] | None,
        costs: Float[Tensor, "n"],
        cost: Cost,
    ) -> Float[Tensor, "n"]:
        """Return the baseline of each sample; it does not depend on the sample itself."""
        if self.baseline == "leave_one_out":
            return leave_one_out(costs.view(-1, self.samples)).flatten()
        if self.baseline == "greedy":
            written = write_greedily(policy, batch, stretch=self.stretch, given=given)
            theirs = written.compute_costs(batch, policy.vocabulary, cost)
            return theirs.repeat_interleave(self.samples)
        if self.baseline == "mean":
            self.mean.add(costs)
        return torch.full_like(costs, self.mean.value)

    def after_update(self, policy: Policy, clock: Clock, modules: Modules = NO_MODULES) -> None:
        """Move the mean of costs."""
        if self.baseline == "mean":
            self.mean.commit(0.99 if self.decay is None else self.decay)

    def state_dict(self) -> dict[str, Any]:
        """Return the moving mean, if there is one."""
        if self.baseline != "mean":
            return {}
        return {"total": self.mean.total, "weight": self.mean.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the moving mean."""
        if self.baseline == "mean":
            self.mean.total, self.mean.weight = state["total"], state["weight"]
            self.mean.waiting = []


def estimate_costs(
    layer: nn.Module, trace: Trace, mask: Bool[Tensor, "n t"]
) -> Float[Tensor, "n t"]:
    """Return the learned baseline at each cell, and 0 on padding.

    The hidden state of a cell does not depend on the token that is drawn there. No gradient flows
    into it: the baseline reads the policy, and does not shape it.

    Args:
        layer: a linear layer.
        trace: the samples as the policy read them.
        mask: true on their tokens.
    """
    dtype = next(layer.parameters()).dtype
    found = layer(trace.hidden(mask).detach().to(dtype))[:, 0]
    return found.new_zeros(mask.shape).masked_scatter(mask, found)


@dataclass(frozen=True, kw_only=True)
class MIXER(Reinforce):
    """Log loss of the first T-D tokens of the target, and REINFORCE on own tokens after them.

    Ranzato, Chopra, Auli, Zaremba 2016, *Sequence Level Training with Recurrent Neural Networks*,
    arXiv 1511.06732, section 3.2.2, where D is called Δ. It grows during training, from one token
    to the whole target.

    Args:
        samples: the number of samples of each example; at least 1, and at least 2 with
            baseline=leave_one_out.
        baseline: as in `reinforce`: `none`, `mean`, `greedy`, `leave_one_out` or `learned`.
        anneal: the fraction of updates, after the warm-up, in which D grows to the whole target; in
            [0, 1].

    Raises:
        ValueError: if a setting is out of range, or has no effect.
    """

    name: ClassVar[str] = "mixer"
    paper: ClassVar[str] = "Ranzato et al. 2016, arXiv 1511.06732"
    summary: ClassVar[str] = "log loss of the first tokens, REINFORCE on a growing rest"

    samples: int = 1
    baseline: BaselineName = "learned"
    anneal: float = 0.25

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("anneal", self.anneal, 0, 1)

    def given_tokens(self, batch: Batch, clock: Clock) -> Int[Tensor, "b"]:
        """Return T-D for each target: D is a fraction of its tokens, rounded up."""
        past = clock.step - math.ceil(self.warm_up * clock.total) + 1
        fall = self.anneal * clock.total
        share = 1.0 if past >= fall else past / fall
        return batch.lengths - (batch.lengths * share).ceil().long()
