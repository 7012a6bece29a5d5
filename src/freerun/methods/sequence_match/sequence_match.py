"""SequenceMatch: minimize a divergence between the occupancies of data and model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from freerun.batch import Batch
from freerun.decoding import sample
from freerun.losses import Divergence, ScoredActions, behavior_cloning_loss, sequence_match_loss
from freerun.methods.base import NO_MODULES, Clock, Modules, Outcome, check_choice
from freerun.methods.behavior_cloning import BackspaceMethod, score_actions
from freerun.methods.replay_buffer import ReplayBuffer, ReplayedBatch
from freerun.methods.tuning import Choice, Range, Space
from freerun.policy import Policy
from freerun.randomness import below, random_bits
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class SequenceMatch(BackspaceMethod):
    """Minimizes -J, a divergence between the occupancies of the data and of own sequences.

    Cundy and Ermon 2024, *SequenceMatch: Imitation Learning for Autoregressive Sequence Modelling
    with Backtracking*, arXiv 2306.05426; J is that of `freerun.losses.sequence_match_loss`. The
    loss is first behavior cloning, then β·(behavior cloning) + (1-β)·(-J), where β falls linearly
    from 1. Own sequences are sampled periodically into a replay buffer.

    Args:
        divergence: the divergence of data and model: `chi2_mixture` (the paper's: χ² of the data
            and the equal mixture of both), `chi2`, `kl_model_data`, `kl_data_model`, `js`,
            `hellinger` or `tv`.
        alpha: α, the weight of the divergence relative to the likelihood; at least 0.
        gamma: γ, the discount; in (0, 1].
        backspace: whether the policy can withdraw tokens; without it there is no noise either.
        warm_up: the fraction of updates, at the start of training, that are behavior cloning; in
            [0, 1).
        anneal: the fraction of updates, after the warm-up, in which β falls to `floor`; in [0, 1].
        floor: the minimum of β, in [0, 1).
        period: the number of updates between samplings, each for the examples of one update.
        samplings: the number of samplings that the buffer holds.
        length: the maximum number of actions of an own sequence; by default one less than an output
            may have.

    Raises:
        ValueError: if a setting is out of range, or has no effect.
    """

    name: ClassVar[str] = "sequence_match"
    paper: ClassVar[str] = "Cundy and Ermon 2024, arXiv 2306.05426"
    summary: ClassVar[str] = "matches model and data by their occupancies; tokens can be withdrawn"

    divergence: Divergence = "chi2_mixture"
    alpha: float = 0.01
    gamma: float = 0.998
    backspace: bool = True
    warm_up: float = 0.5
    anneal: float = 0.25
    floor: float = 0.2
    period: int = 10
    samplings: int = 10
    length: int | None = None
    buffer: ReplayBuffer = field(
        init=False, default_factory=lambda: ReplayBuffer(("actions",)), repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_choice("divergence", self.divergence, Divergence)
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha is {self.alpha}; it must be finite and at least 0")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; it must lie in (0, 1]")
        for name in ("warm_up", "floor"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if not 0 <= self.anneal <= 1:
            raise ValueError(f"anneal is {self.anneal}; it must lie in [0, 1]")
        for name in ("period", "samplings", "length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if not self.backspace:
            for name in ("noise", "noise_tokens", "noise_run"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect without a backspace; leave it out")

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The noise, the divergence, the weight of behavior cloning, and the age of samples."""
        return {
            **(super().tuning if self.backspace else {}),
            "alpha": Range(1e-3, 1.0, log=True),
            "gamma": Range(0.95, 1.0),
            "warm_up": Range(0.1, 0.7),
            "floor": Range(0.0, 0.8),
            "period": Choice((1, 3, 10, 30)),
            "samplings": Choice((1, 3, 10, 30)),
        }

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that the method can train on outputs of this vocabulary.

        Raises:
            ValueError: if outputs have no eos, or wrong tokens cannot be inserted.
        """
        if vocabulary.eos is None:
            raise ValueError(
                "sequence_match needs outputs that end in eos: the state after the last token has "
                "a value, too"
            )
        if self.backspace:
            super().check(vocabulary)

    @property
    def needs_backspace(self) -> bool:
        """Whether the policy may withdraw tokens."""
        return self.backspace

    @property
    def extra_positions(self) -> int:
        """The number of positions read beyond the target: the state after it has a value, too."""
        return max(1, super().extra_positions if self.backspace else 0)

    def cloning_weight(self, clock: Clock) -> float:
        """Return β, the weight of behavior cloning."""
        past = clock.step - self._start(clock)
        if past < 0:
            return 1.0
        fall = self.anneal * clock.total
        return self.floor if past >= fall else 1 - (1 - self.floor) * past / fall

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute β·(behavior cloning) + (1-β)·(-J), divided by the number of target tokens.

        Raises:
            ValueError: if an example has no target, or mistakes cannot be planted.
        """
        batch.target_tokens()
        if self._due(clock):
            self._sample(policy, batch, clock)
        count = batch.mask.sum()
        actions, mask = batch.target, batch.mask
        if self.backspace:
            data = self.insert_noise(policy.vocabulary, batch, clock)
            actions, mask = data.actions, data.mask
        beta = self.cloning_weight(clock)
        matching = beta < 1 and len(self.buffer) > 0
        scored = score_actions(policy, batch.source, actions, mask, last=matching)
        total = behavior_cloning_loss(scored)
        metrics = {"behavior_cloning": total.detach() / count, "beta": torch.tensor(beta)}
        if matching:
            own = self.buffer.draw(self._numbers(batch, clock), policy.vocabulary.pad)
            theirs = score_actions(policy, own.source, *own.rows["actions"])
            matched, outside = sequence_match_loss(
                scored, theirs, divergence=self.divergence, alpha=self.alpha, gamma=self.gamma
            )
            total = beta * total + (1 - beta) * matched
            metrics["sequence_match"] = matched.detach() / count
            metrics["outside_domain"] = outside
            metrics |= self._describe_own(policy.vocabulary, own, theirs, clock)
        return Outcome(total, count, metrics)

    def after_update(self, policy: Policy, clock: Clock, modules: Modules = NO_MODULES) -> None:
        """Add the sequences sampled in this update to the buffer."""
        self.buffer.commit(self.samplings)

    def state_dict(self) -> dict[str, Any]:
        """Return the buffer."""
        return self.buffer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the buffer."""
        self.buffer.load_state_dict(state)

    def _start(self, clock: Clock) -> int:
        """Return the first update with β below 1; at least 1, as the buffer is filled before."""
        return max(1, math.ceil(self.warm_up * clock.total))

    def _due(self, clock: Clock) -> bool:
        """Return whether sequences are sampled in this update."""
        past = clock.step - (self._start(clock) - 1)
        return past >= 0 and past % self.period == 0

    def _numbers(self, batch: Batch, clock: Clock) -> Int[Tensor, "b"]:
        """Draw the own sequence that each example is paired with."""
        return below(len(self.buffer), clock.seed, "buffer", clock.step, batch.ids)

    @torch.no_grad()
    def _sample(self, policy: Policy, batch: Batch, clock: Clock) -> None:
        # One less than the maximum of an output, as the state after the last action is read, too.
        limit = (policy.limit(batch.source) - 1).clamp(min=1)
        if self.length is not None:
            limit = limit.clamp(max=self.length)
        seed = int(random_bits(clock.seed, "own sequences", clock.step))
        found = sample(policy, batch.source, ids=batch.ids, seed=seed, limit=limit)
        self.buffer.add(batch.ids, batch.source, clock.step, found.all_actions)

    @staticmethod
    def _describe_own(
        vocabulary: Vocabulary, own: ReplayedBatch, scored: ScoredActions, clock: Clock
    ) -> dict[str, Tensor]:
        """Compute metrics of own sequences: age in updates, fraction that ended, backspaces."""
        found = {
            "staleness": (clock.step - own.steps).double().mean(),
            "own_ended": scored.ended.double().mean(),
        }
        if vocabulary.backspace is not None:
            actions, mask = own.rows["actions"]
            back = (actions == vocabulary.backspace) & mask
            found["own_backspaces"] = back.sum() / mask.sum()
        return found
