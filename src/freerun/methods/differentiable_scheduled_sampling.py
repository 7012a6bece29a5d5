"""Differentiable scheduled sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.decoding import apply_in_blocks
from freerun.losses import log_loss
from freerun.methods.base import NO_MODULES, Clock, Modules, Outcome, check_choice
from freerun.methods.scheduled_sampling import ScheduledRollIn
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy
from freerun.randomness import gumbel
from freerun.relaxations import soft_argmax, straight_through
from freerun.roll_in import SparseWeights, check_passes, sum_relaxed
from freerun.schedules import Geometric

Relaxation = Literal["soft_argmax", "soft_sample"]


@dataclass(frozen=True, kw_only=True)
class DifferentiableScheduledSampling(ScheduledRollIn):
    """Scheduled sampling with relaxed own tokens, through which the gradient flows.

    Goyal, Dyer, Berg-Kirkpatrick 2017, *Differentiable Scheduled Sampling for Credit Assignment*,
    arXiv 1704.06970, section 3. The cell after an own token reads the mixture Σ_a w(a)·e(a).

    Args:
        relaxation: `soft_argmax`, w = softmax(α·s), or `soft_sample`, w = softmax(α·(s + G)) with
            Gumbel noise G.
        alpha: the peakedness α > 0 at the start of training.
        alpha_end: α at the end, reached by a constant factor per update; by default the same as
            `alpha`.
        straight_through: feed the token of the largest weight, as in decoding, with the gradient
            of w; by default wherever there is a gradient (`through`).
        top_k: spread w over the k largest weights only; None over all.
        passes: the number of passes over whole rows in an update, at least 2: the first reads the
            reference, each later one the mixtures from the scores of the one before (arXiv
            1906.04331); 0 to run cell by cell. By default 2 for Transformers, which read a row at
            once, and cell by cell for recurrent models.
        through: whether the gradient flows through w to the scores of earlier cells. If not, w is a
            constant, computed without dropout, as the own tokens of scheduled sampling are.

    Raises:
        ValueError: if a setting is out of range, missing, or has no effect on this schedule.
    """

    name: ClassVar[str] = "differentiable_scheduled_sampling"
    paper: ClassVar[str] = "Goyal et al. 2017, arXiv 1704.06970"
    summary: ClassVar[str] = "scheduled sampling that also learns from what a mistake costs later"

    relaxation: Relaxation = "soft_argmax"
    alpha: float = 1.0
    alpha_end: float | None = None
    straight_through: bool | None = None
    top_k: int | None = None
    passes: int | None = None
    through: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_choice("relaxation", self.relaxation, Relaxation)
        for name in ("alpha", "alpha_end"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; it must be finite and above 0")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1")
        check_passes(self.passes or None)
        if self.straight_through and not self.through:
            feedback = "greedy" if self.relaxation == "soft_argmax" else "sample"
            raise ValueError(
                "straight_through=True needs through=True, as it changes the gradient of the "
                f"weights; without one it is scheduled_sampling with feedback={feedback}"
            )

    @property
    def reads_tokens(self) -> bool:
        """Whether tokens are read, as in decoding, and not mixtures."""
        return self.through if self.straight_through is None else self.straight_through

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The schedule, its floor, and the peakedness."""
        return {**super().tuning, "alpha": Range(0.5, 20.0, log=True)}

    def for_model(self, *, at_once: bool) -> DifferentiableScheduledSampling:
        """Return this method with the number of passes for the kind of model."""
        if self.passes is not None or not at_once:
            return self
        return replace(self, passes=2)

    def alpha_at(self, clock: Clock) -> float:
        """Return α at this update."""
        end = self.alpha if self.alpha_end is None else self.alpha_end
        return Geometric(self.alpha, end, clock.total)(clock.step)

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of the reference tokens on a mixed roll-in of relaxed tokens.

        Raises:
            ValueError: if an example has no target.
        """
        targets, count = batch.target_tokens(), batch.mask.sum()
        own, alpha = self.draw_own(batch, clock), self.alpha_at(clock)

        def noise(
            scores: Float[Tensor, "n a"], ids: Int[Tensor, "n"], cells: Int[Tensor, "n"]
        ) -> Float[Tensor, "n a"]:
            tokens = torch.arange(scores.shape[-1], device=scores.device)
            names = clock.seed, "relaxation", clock.step, ids[:, None], cells[:, None], tokens
            return gumbel(*names, dtype=scores.dtype)

        def relax(
            scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]
        ) -> Tensor | SparseWeights:
            if self.relaxation == "soft_sample":
                scores = scores + apply_in_blocks(noise, scores, batch.ids[rows], cells)
            if self.top_k is None or self.top_k >= scores.shape[-1]:
                return self._weights(scores, alpha)
            # Only these are looked up, which avoids the product with the whole table.
            best, tokens = scores.topk(self.top_k, -1)
            return self._weights(best, alpha), tokens

        passes, through = self.passes or None, self.through
        loss = log_loss, targets
        total = sum_relaxed(policy, batch, own, relax, *loss, passes=passes, through=through)
        own_share = own.sum() / count
        return Outcome(total, count, {"own_share": own_share, "alpha": torch.tensor(alpha)})

    def _weights(self, scores: Float[Tensor, "n k"], alpha: float) -> Float[Tensor, "n k"]:
        weights = soft_argmax(scores, alpha)
        return straight_through(weights) if self.reads_tokens else weights
