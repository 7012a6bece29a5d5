"""Maximum likelihood by teacher forcing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from freerun.batch import Batch
from freerun.losses import log_loss
from freerun.methods.base import NO_MODULES, Clock, Method, Modules, Outcome
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy


@dataclass(frozen=True, kw_only=True)
class MLE(Method):
    """-Σ_t log p(y*_t | y*_<t, x): the policy only ever sees reference prefixes.

    Args:
        label_smoothing: fraction of each target that is spread evenly over all tokens, in [0, 1).

    Raises:
        ValueError: if `label_smoothing` is out of range.
    """

    name: ClassVar[str] = "mle"
    paper: ClassVar[str] = "Williams and Zipser 1989, Neural Computation 1(2) (teacher forcing)"
    summary: ClassVar[str] = "the baseline: cheap and strong; start here, and measure against it"

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must lie in [0, 1)")

    @property
    def tuning(self) -> Mapping[str, Space]:
        """Label smoothing."""
        return {"label_smoothing": Range(0.0, 0.2)}

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of the reference tokens on reference prefixes.

        Raises:
            ValueError: if an example has no target.
        """
        targets = batch.target_tokens()
        trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
        loss = partial(log_loss, smoothing=self.label_smoothing)
        total = trace.sum_loss(batch.mask, loss, targets)
        return Outcome(total, batch.mask.sum())
