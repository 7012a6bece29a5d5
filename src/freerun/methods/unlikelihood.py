"""Unlikelihood training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from freerun.batch import Batch, shift_right
from freerun.costs.rows import length_mask
from freerun.decoding import greedy
from freerun.losses import log_loss, repeated_ngrams, sequence_unlikelihood
from freerun.losses.likelihood import mark_earlier_tokens, masked_unlikelihood
from freerun.methods.base import NO_MODULES, Clock, Method, Modules, Outcome, check_choice
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy
from freerun.randomness import uniform

Level = Literal["token", "sequence"]


@dataclass(frozen=True, kw_only=True)
class Unlikelihood(Method):
    """Log loss of the reference plus unlikelihood, -log(1 - p), of repeated tokens.

    Welleck, Kulikov, Roller, Dinan, Cho, Weston 2020, *Neural Text Generation with Unlikelihood
    Training*, arXiv 1908.04319. `freerun.losses.token_unlikelihood` and `repeated_ngrams` describe
    how the losses differ from the authors' code.

    Args:
        level: `token` applies to the earlier tokens of the target at each cell, except the right
            one; `sequence` applies to tokens of the policy's own output that are part of a repeated
            n-gram.
        weight: λ, the weight of the unlikelihood; above 0.
        ngram: n, for level=sequence only (default 4).
        share: for level=sequence only, the probability that the loss of an example is on the
            policy's output instead of its target; in (0, 1] (default 0.5).

    Raises:
        ValueError: if a setting is out of range, or has no effect.
    """

    name: ClassVar[str] = "unlikelihood"
    paper: ClassVar[str] = "Welleck et al. 2020, arXiv 1908.04319"
    summary: ClassVar[str] = "lowers the probability of repetitions, for text that repeats itself"

    level: Level = "token"
    weight: float = 1.0
    ngram: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_choice("level", self.level, Level)
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight is {self.weight}; it must be finite and above 0")
        for name in ("ngram", "share"):
            if self.level == "token" and getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect on level=token; leave it out")
        if self.ngram is not None and self.ngram < 1:
            raise ValueError(f"ngram is {self.ngram}; it must be at least 1")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must lie in (0, 1]")

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The weight."""
        return {"weight": Range(0.1, 10.0, log=True)}

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute log loss plus weighted unlikelihood, divided by the number of target tokens.

        Raises:
            ValueError: if an example has no target.
        """
        batch.target_tokens()
        count = batch.mask.sum()
        if self.level == "token":
            total, unlikely = self._score_targets(policy, batch)
            return Outcome(total, count, {"unlikelihood": unlikely / count})
        share = 0.5 if self.share is None else self.share
        own = uniform(clock.seed, "unlikelihood", clock.step, batch.ids) < share
        total, found = torch.zeros((), device=count.device), torch.zeros((), device=count.device)
        if not bool(own.all()):
            targets = batch.select((~own).nonzero()[:, 0])
            trace = policy.force(targets.source, targets.inputs(policy.vocabulary.bos))
            total = total + trace.sum_loss(targets.mask, log_loss, targets.target_tokens())
        if bool(own.any()):
            unlikely, found = self._score_own(policy, batch.select(own.nonzero()[:, 0]))
            total = total + self.weight * unlikely
        return Outcome(total, count, {"repeated": found})

    def _score_targets(
        self, policy: Policy, batch: Batch
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Compute the loss of the targets, and the part that is unlikelihood, without gradient."""
        parts: list[Float[Tensor, ""]] = []

        def loss(scores: Tensor, right: Tensor, others: Tensor, cells: Tensor) -> Tensor:
            unlikely = masked_unlikelihood(scores, others, cells)
            parts.append(unlikely.detach())
            return log_loss(scores, right) + self.weight * unlikely

        trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
        others = batch.target[batch.mask.nonzero()[:, 0]]
        earlier = mark_earlier_tokens(batch.target, batch.mask)
        total = trace.sum_loss(batch.mask, loss, batch.target_tokens(), others, earlier)
        return total, torch.stack(parts).sum()

    def _score_own(
        self, policy: Policy, batch: Batch
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Compute the unlikelihood of repeated tokens of the policy, and their fraction."""
        found = greedy(policy, batch.source)
        tokens, mask = found.tokens, length_mask(found.tokens.shape[1], found.lengths)
        again: Bool[Tensor, "b t"] = repeated_ngrams(tokens, mask, size=self.ngram or 4)
        trace = policy.force(batch.source, shift_right(tokens, policy.vocabulary.bos))
        total = trace.sum_loss(again, sequence_unlikelihood, tokens[again])
        return total, again.sum() / mask.sum()
