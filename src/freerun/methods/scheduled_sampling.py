"""Scheduled sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.losses import log_loss
from freerun.methods.base import Clock, Outcome, check_choice
from freerun.methods.coins import Coins
from freerun.policy import Policy
from freerun.rolling import by_blocks, check_passes, greedy_choice, mixed, sampled_choice

Feedback = Literal["greedy", "sample"]


@dataclass(frozen=True, kw_only=True)
class ScheduledSampling(Coins):
    """Log loss of the reference on prefixes that mix reference tokens and the policy's own.

    Bengio, Vinyals, Jaitly, Shazeer 2015, *Scheduled Sampling for Sequence Prediction with
    Recurrent Neural Networks*, arXiv 1506.03099. No gradient flows through the fed tokens.

    Args:
        feedback: the policy's own token: its `greedy` choice, or a `sample`.
        passes: how many passes over whole rows an update takes, at least 2: the first reads the
            reference, each later one the own tokens that the one before gives (arXiv 1906.04331);
            None to choose own tokens cell by cell.

    Raises:
        ValueError: where a setting is out of range, missing, or has no effect on this schedule.
    """

    name: ClassVar[str] = "scheduled_sampling"
    paper: ClassVar[str] = "Bengio et al. 2015, arXiv 1506.03099"
    summary: ClassVar[str] = "the model reads its own tokens more and more: a cheap first remedy"

    feedback: Feedback = "greedy"
    passes: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_choice("feedback", self.feedback, Feedback)
        check_passes(self.passes)

    def loss(self, policy: Policy, batch: Batch, clock: Clock) -> Outcome:
        """The log loss of the reference tokens on a mixed roll-in.

        Raises:
            ValueError: where an example has no target.
        """
        targets, own = batch.target_tokens(), self.own(batch, clock)

        def draw(
            scores: Float[Tensor, "n a"], ids: Int[Tensor, "n"], cells: Int[Tensor, "n"]
        ) -> Int[Tensor, "n"]:
            names = clock.seed, "feedback", clock.step, ids, cells
            return sampled_choice(scores.log_softmax(-1), *names)

        def choose(
            scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]
        ) -> Int[Tensor, "n"]:
            if self.feedback == "greedy":
                return greedy_choice(scores)
            return by_blocks(draw, scores, batch.ids[rows], cells)

        inputs = mixed(policy, batch, own, choose, passes=self.passes)
        trace = policy.force(batch.source, inputs)
        total = log_loss(trace.logits(batch.mask), targets)
        count = batch.mask.sum()
        return Outcome(total, count, {"own_share": own.sum() / count})
