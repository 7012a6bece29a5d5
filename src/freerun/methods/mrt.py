"""Minimum risk training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.batch import Batch, join_rows
from freerun.costs import Cost
from freerun.losses import minimum_risk
from freerun.methods.base import Clock, Modules, Outcome, check_range
from freerun.methods.samples import (
    CostMethod,
    Samples,
    check_positive,
    draw_samples,
    weigh_by_length,
)
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy


@dataclass(frozen=True, kw_only=True)
class MRT(CostMethod):
    """Σ_{y∈S} Q(y)·Δ(y, y*) with Q ∝ p(y|x)^κ, over the reference and different own samples S.

    Shen, Cheng, He, He, Wu, Sun, Liu 2016, *Minimum Risk Training for Neural Machine Translation*,
    arXiv 1512.02433, equations 9 to 11.

    Args:
        samples: the number of samples that are drawn for each example; at least 1. Each different
            one counts once.
        kappa: κ, the sharpness of Q, which the paper calls α; finite and above 0.

    Raises:
        ValueError: if a setting is out of range.
    """

    name: ClassVar[str] = "mrt"
    paper: ClassVar[str] = "Shen et al. 2016, arXiv 1512.02433"
    summary: ClassVar[str] = "lowers the expected cost over own samples and the reference"

    samples: int = 10
    kappa: float = 0.005

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("samples", self.samples, 1)
        check_positive("kappa", self.kappa)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The sharpness, and the warm-up."""
        return {"kappa": Range(1e-3, 1.0, log=True), "warm_up": Range(0.1, 0.9)}

    def learn_costs(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules, cost: Cost
    ) -> Outcome:
        """Compute the risk of each example, divided by the number of target tokens."""
        drawn = draw_samples(policy, batch, self.samples, clock, stretch=self.stretch)
        found, mask = find_different(drawn, batch)
        costs = found.compute_costs(batch, policy.vocabulary, cost)
        log_probs = found.log_probs(found.read(policy, batch)).sum(1)
        costs = costs.to(log_probs.dtype)
        risks = minimum_risk(
            log_probs.new_zeros(mask.shape).masked_scatter(mask, log_probs),
            costs.new_zeros(mask.shape).masked_scatter(mask, costs),
            mask,
            kappa=self.kappa,
        )
        metrics = {
            "risk": weigh_by_length(risks, batch),
            "different": weigh_by_length(mask.sum(1).to(risks.dtype), batch),
        }
        return Outcome(risks.sum(), batch.mask.sum(), metrics)


def find_different(drawn: Samples, batch: Batch) -> tuple[Samples, Bool[Tensor, "b c"]]:
    """Return targets and samples without duplicates, example by example, and where they are.

    Args:
        drawn: samples, equally many for each example of the batch.
        batch: the examples.

    Returns:
        The outputs, and a mask with a row for each example: of its target and its samples, the
        first of those that are equal is true. The outputs are in the order of the mask.
    """
    rows = torch.arange(len(batch.ids), device=batch.ids.device)
    order = torch.cat([rows, drawn.rows]).argsort(stable=True).view(len(rows), -1)
    tokens: Int[Tensor, "b c t"] = join_rows(batch.target, drawn.tokens)[order]
    mask: Bool[Tensor, "b c t"] = join_rows(batch.mask, drawn.mask)[order]
    told = tokens.where(mask, -1)
    same = (told[:, :, None] == told[:, None]).all(-1)
    first = ~same.tril(-1).any(-1)
    return Samples(first.nonzero()[:, 0], tokens[first], mask[first]).trim(), first
