"""Scheduled sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.decoding import apply_in_blocks, argmax_tokens, sample_tokens
from freerun.losses import log_loss
from freerun.methods.base import (
    NO_MODULES,
    Clock,
    Method,
    Modules,
    Outcome,
    check_choice,
    refuse_backspace,
)
from freerun.methods.tuning import Choice, Range, Space
from freerun.policy import Policy
from freerun.randomness import uniform
from freerun.roll_in import check_passes, roll_in
from freerun.schedules import (
    Constant,
    Exponential,
    InverseSigmoid,
    Linear,
    Schedule,
    inverse_sigmoid_rate,
)
from freerun.vocabulary import Vocabulary

ScheduleName = Literal["linear", "exponential", "inverse_sigmoid", "constant"]


@dataclass(frozen=True, kw_only=True)
class ScheduledRollIn(Method):
    """One coin per token and sentence, under a schedule (Bengio et al. 2015, section 2.4).

    The reference token is read with probability ε, which falls during training from about 1
    towards `floor`; otherwise the policy's own. Unset settings are fitted to the length of the run.

    Args:
        schedule: how ε falls: `linear` max(floor, k - c·i), `exponential` k^i, `inverse_sigmoid`
            k/(k + exp(i/k)), or `constant` k, for update i.
        k: linear: ε at the start (default 1). exponential: in [0, 1] (default: ε is 0.01 at the
            end). inverse_sigmoid: at least 1 (default: ε is one half at half of the run).
            constant: ε itself (required).
        c: linear only: the decrease per update (default: `floor` is reached at the end).
        floor: the minimum of ε, in [0, 1].

    Raises:
        ValueError: if a setting is out of range, missing, or has no effect on this schedule.
    """

    schedule: ScheduleName = "inverse_sigmoid"
    k: float | None = None
    c: float | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_choice("schedule", self.schedule, ScheduleName)
        if self.c is not None and self.schedule != "linear":
            raise ValueError(f"c is the slope of schedule=linear; {self.schedule} has none")
        if self.c is not None and not 0 <= self.c < math.inf:
            raise ValueError(f"c is {self.c}; it must be finite and at least 0")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is {self.floor}; it must lie in [0, 1]")
        if self.schedule == "constant" and self.k is None:
            raise ValueError("schedule=constant needs k, the share of reference tokens")
        if self.schedule == "constant" and self.floor > 0:
            raise ValueError("floor has no effect on schedule=constant; set k")
        low, high = (1.0, math.inf) if self.schedule == "inverse_sigmoid" else (0.0, 1.0)
        if self.k is not None and not low <= self.k <= high:
            raise ValueError(
                f"k is {self.k}; for schedule={self.schedule} it must lie in [{low:g}, {high:g}]"
            )
        if self.schedule == "linear" and self.k is not None and self.k < self.floor:
            raise ValueError(
                f"k is {self.k}, where schedule=linear starts, below floor {self.floor}"
            )

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The schedule, if its length follows from the run, and its floor."""
        if self.schedule == "constant":
            return {}
        if self.k is not None or self.c is not None:
            return {"floor": Range(0.0, 0.9)} if self.schedule != "linear" else {}
        schedules = ("linear", "exponential", "inverse_sigmoid")
        return {"schedule": Choice(schedules), "floor": Range(0.0, 0.9)}

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that own tokens cannot be backspaces.

        Raises:
            ValueError: if they can be.
        """
        refuse_backspace(vocabulary, "scheduled sampling")

    def reference_share(self, clock: Clock) -> float:
        """Return ε, the probability of the reference token; constant after the planned updates."""
        return self._schedule(clock.total)(min(clock.step, clock.total))

    def draw_own(self, batch: Batch, clock: Clock) -> Bool[Tensor, "b t"]:
        """Return where a cell reads the policy's own token; never at cell 0, which reads bos."""
        cells = torch.arange(batch.mask.shape[1], device=batch.mask.device)
        coins = uniform(clock.seed, "reference or own", clock.step, batch.ids[:, None], cells)
        # Padding has coins, too: a coin depends on its cell, not on the width of the batch.
        return (coins >= self.reference_share(clock)) & batch.mask & (cells > 0)

    def _schedule(self, total: int) -> Schedule:
        if self.schedule == "constant":
            return Constant(cast("float", self.k))
        if self.schedule == "linear":
            k = 1.0 if self.k is None else self.k
            c = max(k - self.floor, 0.0) / total if self.c is None else self.c
            return Linear(k, c, self.floor)
        if self.schedule == "exponential":
            return Exponential(0.01 ** (1 / total) if self.k is None else self.k, self.floor)
        k = inverse_sigmoid_rate(total / 2) if self.k is None else self.k
        return InverseSigmoid(k, self.floor)


Feedback = Literal["greedy", "sample"]


@dataclass(frozen=True, kw_only=True)
class ScheduledSampling(ScheduledRollIn):
    """Log loss of the reference on prefixes that mix reference tokens and the policy's own.

    Bengio, Vinyals, Jaitly, Shazeer 2015, *Scheduled Sampling for Sequence Prediction with
    Recurrent Neural Networks*, arXiv 1506.03099. No gradient flows through the fed tokens.

    Args:
        feedback: the policy's own token: its `greedy` choice, or a `sample`.
        passes: the number of passes over whole rows in an update, at least 2: the first reads the
            reference, each later one the own tokens from the scores of the one before (arXiv
            1906.04331); None to choose own tokens cell by cell.

    Raises:
        ValueError: if a setting is out of range, missing, or has no effect on this schedule.
    """

    name: ClassVar[str] = "scheduled_sampling"
    paper: ClassVar[str] = "Bengio et al. 2015, arXiv 1506.03099"
    summary: ClassVar[str] = "the model increasingly reads its own tokens; a cheap first remedy"

    feedback: Feedback = "greedy"
    passes: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_choice("feedback", self.feedback, Feedback)
        check_passes(self.passes)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The schedule, its floor, and how own tokens are chosen."""
        return {**super().tuning, "feedback": Choice(("greedy", "sample"))}

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of the reference tokens on a mixed roll-in.

        Raises:
            ValueError: if an example has no target.
        """
        targets = batch.target_tokens()
        inputs, own = self.roll_in(policy, batch, clock)
        trace = policy.force(batch.source, inputs)
        total = trace.sum_loss(batch.mask, log_loss, targets)
        count = batch.mask.sum()
        return Outcome(total, count, {"own_share": own.sum() / count})

    def roll_in(
        self, policy: Policy, batch: Batch, clock: Clock
    ) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """Return the inputs of every cell, and which of them are the policy's own tokens."""
        own = self.draw_own(batch, clock)

        def draw(
            scores: Float[Tensor, "n a"], ids: Int[Tensor, "n"], cells: Int[Tensor, "n"]
        ) -> Int[Tensor, "n"]:
            names = clock.seed, "feedback", clock.step, ids, cells
            return sample_tokens(scores.log_softmax(-1), *names)

        def choose(
            scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]
        ) -> Int[Tensor, "n"]:
            if self.feedback == "greedy":
                return argmax_tokens(scores)
            return apply_in_blocks(draw, scores, batch.ids[rows], cells)

        return roll_in(policy, batch, own, choose, passes=self.passes), own
