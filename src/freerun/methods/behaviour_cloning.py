"""Behaviour cloning of data that hold backspaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from freerun.batch import Batch
from freerun.losses import behaviour_cloning_loss
from freerun.methods.base import Clock, Outcome
from freerun.methods.noise import Noise
from freerun.methods.walks import walked
from freerun.policy import Policy


@dataclass(frozen=True, kw_only=True)
class BehaviourCloning(Noise):
    """-Σ_t log p(a_t | s_t) over targets with planted mistakes, each withdrawn by a backspace.

    Cundy and Ermon 2024, arXiv 2306.05426: maximum likelihood for actions, of which
    backspace is one. The wrong tokens themselves are learnt too, as in the paper.

    Raises:
        ValueError: where a setting is out of range.
    """

    name: ClassVar[str] = "behaviour_cloning"
    paper: ClassVar[str] = "Cundy and Ermon 2024, arXiv 2306.05426 (MLE + backspace)"
    summary: ClassVar[str] = "teacher forcing of planted mistakes and of backspaces that undo them"
    backspace: ClassVar[bool] = True

    def loss(self, policy: Policy, batch: Batch, clock: Clock) -> Outcome:
        """The log loss of the actions, over the target tokens.

        Raises:
            ValueError: where an example has no target, or mistakes cannot be planted.
        """
        batch.target_tokens()
        data = self.planted(policy.vocabulary, batch, clock)
        walk = walked(policy, batch.source, data.actions, data.mask, last=False)
        count = batch.mask.sum()
        share = data.planted.sum() / data.mask.sum()
        return Outcome(behaviour_cloning_loss(walk), count, {"planted": share})
