"""The choices of roll-in (where prefixes come from) and roll-out (what completes them).

Leblond et al. 2018, arXiv 1706.04499. Each choice is a dataclass with its own settings, so settings
without effect cannot be given.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from freerun.batch import Batch
from freerun.methods.base import Clock, check_choice, check_range
from freerun.methods.samples import UNLIMITED
from freerun.methods.searnn.search import Search
from freerun.models.recurrent.projection import has_bfloat16
from freerun.policy import Trace
from freerun.randomness import uniform
from freerun.roll_out import RollOuts, Trials
from freerun.settings import SETTING_NAME
from freerun.trajectories import Trajectories, roll_in_learned, roll_in_mixed, roll_in_reference

_LOGGER = logging.getLogger(__name__)

RollOutPrecision = Literal["training", "bfloat16"]

NGRAM_COSTS = ("bleu", "bleu_1", "gleu")
"""The costs that compare the n-grams of an output with those of its target."""


@dataclass(frozen=True)
class ReferenceRollIn:
    """The targets are the prefixes (teacher forcing)."""

    name: ClassVar[str] = "reference"
    uses_policy: ClassVar[bool] = False
    uses_reference: ClassVar[bool] = False

    def write(self, search: Search, clock: Clock) -> Trajectories:
        """Return the targets."""
        return roll_in_reference(search.batch)


@dataclass(frozen=True)
class LearnedRollIn:
    """The policy writes the prefixes greedily."""

    name: ClassVar[str] = "learned"
    uses_policy: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = False

    def write(self, search: Search, clock: Clock) -> Trajectories:
        """Let the policy write all sentences."""
        own = torch.ones_like(search.batch.ids, dtype=torch.bool)
        return roll_in_learned(search.policy, search.batch, own, search.limit)


@dataclass(frozen=True)
class MixedRollIn:
    """Each sentence is written by the policy, or is its target, by a coin.

    Args:
        share: the probability of the reference, in [0, 1].
    """

    name: ClassVar[str] = "mixed"
    uses_policy: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = False

    share: float = field(default=0.5, metadata={SETTING_NAME: "roll_in_share"})

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("roll_in_share", self.share, 0, 1)

    def write(self, search: Search, clock: Clock) -> Trajectories:
        """Let the policy write some sentences, chosen by coins."""
        batch = search.batch
        own = uniform(clock.seed, "roll_in", clock.step, batch.ids) >= self.share
        return roll_in_learned(search.policy, batch, own, search.limit)


@dataclass(frozen=True)
class MixedCellsRollIn:
    """Each cell is written by the policy or by the reference policy, by a coin.

    The reference policy continues the prefix that was actually written.

    Args:
        share: the probability of the reference, in [0, 1].
    """

    name: ClassVar[str] = "mixed_cells"
    uses_policy: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = True

    share: float = field(default=0.5, metadata={SETTING_NAME: "roll_in_share"})

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("roll_in_share", self.share, 0, 1)

    def write(self, search: Search, clock: Clock) -> Trajectories:
        """Let the policy or the reference policy write each cell, chosen by coins."""
        batch, limit = search.batch, search.limit
        cells = torch.arange(int(limit.max()), device=batch.ids.device)
        coins = uniform(clock.seed, "roll_in", clock.step, batch.ids[:, None], cells)
        return roll_in_mixed(search.policy, batch, coins >= self.share, limit, search.next_token)


ChosenRollIn = ReferenceRollIn | LearnedRollIn | MixedRollIn | MixedCellsRollIn


@dataclass(frozen=True)
class RollInByCost:
    """`reference` if the cost compares n-grams, as BLEU does; `learned` for every other cost.

    This is what the paper does: on translation, it reports that learned roll-ins fail. Here, with
    them, outputs got longer and repeated words (docs/results/baselines.md).
    """

    name: ClassVar[str] = "by_cost"

    def choose(self, cost: object) -> ChosenRollIn:
        """Return the roll-in for a cost; BLEU and GLEU are recognized by their names."""
        return ReferenceRollIn() if cost in NGRAM_COSTS else LearnedRollIn()


RollIn = RollInByCost | ChosenRollIn
"""The choice of roll-in."""


@dataclass(frozen=True)
class ReferenceRollOut:
    """The reference policy completes every sentence; no decoder step is needed."""

    name: ClassVar[str] = "reference"
    uses_policy: ClassVar[bool] = False
    uses_reference: ClassVar[bool] = True

    def run(
        self, search: Search, trace: Trace, roll_in: Trajectories, trials: Trials, clock: Clock
    ) -> RollOuts:
        """Return the sentence that each trial leads to."""
        return search.roll_out(trace, roll_in, trials, torch.zeros_like(search.batch.ids))


@cache
def _warn_of_bfloat16(device: torch.device) -> None:
    """Warn once if roll-outs in bfloat16 are slower than those in single precision."""
    if not has_bfloat16(device):
        _LOGGER.warning(
            "roll_out_precision=bfloat16 is slower than the default here: this processor does not "
            "multiply in bfloat16"
        )


@dataclass(frozen=True)
class PolicyRollOut(ABC):
    """The base of roll-outs in which the policy writes.

    Args:
        at_once: the maximum number of roll-outs that run together, which bounds memory.
        precision: the precision of roll-outs: that of `training`, or `bfloat16`, which is faster
            and may choose another token if scores are close.
    """

    uses_policy: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = True

    at_once: int = 16_384
    precision: RollOutPrecision = field(
        default="training", metadata={SETTING_NAME: "roll_out_precision"}
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("at_once", self.at_once, 1)
        check_choice("roll_out_precision", self.precision, RollOutPrecision)

    @abstractmethod
    def max_new_tokens(self, batch: Batch, clock: Clock) -> Int[Tensor, "b"]:
        """Return how many tokens the policy may write in a roll-out of each sentence."""

    def run(
        self, search: Search, trace: Trace, roll_in: Trajectories, trials: Trials, clock: Clock
    ) -> RollOuts:
        """Return the sentence that each trial leads to."""
        if self.precision == "bfloat16":
            _warn_of_bfloat16(search.batch.ids.device)
        return search.roll_out(
            trace,
            roll_in,
            trials,
            self.max_new_tokens(search.batch, clock),
            chunk_size=self.at_once,
            precision=torch.bfloat16 if self.precision == "bfloat16" else None,
        )


@dataclass(frozen=True)
class LearnedRollOut(PolicyRollOut):
    """The policy completes every sentence greedily."""

    name: ClassVar[str] = "learned"
    uses_reference: ClassVar[bool] = False

    def max_new_tokens(self, batch: Batch, clock: Clock) -> Int[Tensor, "b"]:
        """Return no limit."""
        return torch.full_like(batch.ids, UNLIMITED)


@dataclass(frozen=True)
class MixedRollOut(PolicyRollOut):
    """For each sentence, a coin chooses one of the two for all trials, so costs are comparable.

    Args:
        share: the probability of the reference policy, in [0, 1].
    """

    name: ClassVar[str] = "mixed"

    share: float = field(default=0.5, metadata={SETTING_NAME: "roll_out_share"})

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("roll_out_share", self.share, 0, 1)

    def max_new_tokens(self, batch: Batch, clock: Clock) -> Int[Tensor, "b"]:
        """Return no limit for sentences that the policy completes, and 0 for the others."""
        own = uniform(clock.seed, "roll_out", clock.step, batch.ids) >= self.share
        return own * UNLIMITED


@dataclass(frozen=True)
class FocusedRollOut(PolicyRollOut):
    """The policy writes a few tokens, then the reference policy completes the sentence.

    Focused costing: Goodman, Vlachos, Naradowsky 2016.

    Args:
        focus: the number of tokens that the policy writes, at least 0.
        focus_end: that number at the end of training, reached linearly; by default the same.
    """

    name: ClassVar[str] = "focused"

    focus: int = 1
    focus_end: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("focus", self.focus, 0)
        check_range("focus_end", self.focus_end, 0)

    def max_new_tokens(self, batch: Batch, clock: Clock) -> Int[Tensor, "b"]:
        """Return the focus at this update."""
        end = self.focus if self.focus_end is None else self.focus_end
        done = min(clock.step / clock.total, 1.0)
        return torch.full_like(batch.ids, round(self.focus + done * (end - self.focus)))


RollOut = ReferenceRollOut | LearnedRollOut | MixedRollOut | FocusedRollOut
"""The choice of roll-out."""
