"""Behavior cloning of action sequences with backspaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.backspaces import (
    Alternatives,
    AnyToken,
    NoisyTargets,
    WrongTokens,
    build_tree,
    insert_noise,
)
from freerun.batch import Batch, Source
from freerun.chunks import MapScores
from freerun.losses import ScoredActions, behavior_cloning_loss
from freerun.methods.base import NO_MODULES, Clock, Method, Modules, Outcome, check_choice
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy
from freerun.tasks.base import Task
from freerun.vocabulary import Vocabulary


def score_actions(
    policy: Policy,
    source: Source,
    actions: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    *,
    last: bool = True,
) -> ScoredActions:
    """Compute the scores of actions and the values of states in one pass over their prefixes.

    Args:
        policy: the model.
        source: the sources of the action sequences.
        actions: tokens, eos and backspaces.
        mask: true on actions, and false on the padding that follows.
        last: whether to score the state after the last action, which takes one more position; if
            not, its value is NaN.
    """
    vocabulary = policy.vocabulary
    backspace = vocabulary.backspace
    tree = build_tree(actions, mask, bos=vocabulary.bos, pad=vocabulary.pad, backspace=backspace)
    withdraws = backspace is not None and bool(((actions == backspace) & mask).any())
    trace = policy.force(source, tree.tokens, tree.parents if withdraws else None)
    ended = torch.zeros_like(mask[:, 0])
    if vocabulary.eos is not None:
        ended = ((actions == vocabulary.eos) & mask).any(1)
    rows = tree.mask
    if not last:
        rows = torch.zeros_like(tree.tokens).scatter_add(1, tree.tops[:, :-1], mask.long()) > 0

    def score(function: MapScores, *more: Tensor) -> Tensor:
        return trace.map_scores(rows, function, *more)

    return ScoredActions.collect(score, rows, tree.tops, actions, mask, ended)


NoiseTokens = Literal["random", "plausible"]

DEFAULT_NOISE = 0.001
"""The η of the paper."""
NO_BACKSPACE = "the vocabulary has no backspace, which this method needs"


@dataclass(frozen=True, kw_only=True)
class BackspaceMethod(Method):
    """Base of methods that insert wrong tokens into targets, each withdrawn by a backspace.

    Cundy and Ermon 2024, arXiv 2306.05426: targets by themselves contain no backspaces.

    Args:
        noise: η, the probability of wrong tokens before a token, in [0, 1) (default 0.001).
        noise_tokens: the wrong tokens: any (`random`, the default), or those that the task lists as
            mistakes (`plausible`, such as another digit).
        noise_run: the maximum number of wrong tokens in a row, which are then withdrawn in a row
            (default 1).

    Raises:
        ValueError: if a setting is out of range, or has no effect.
    """

    noise: float | None = None
    noise_tokens: NoiseTokens | None = None
    noise_run: int | None = None
    task: Task | None = field(init=False, default=None, repr=False, compare=False)
    tables: dict[Vocabulary, Alternatives] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Check the ranges, and that every setting has an effect."""
        if self.noise is not None and not 0 <= self.noise < 1:
            raise ValueError(f"noise is {self.noise}; it must lie in [0, 1)")
        if self.noise_tokens is not None:
            check_choice("noise_tokens", self.noise_tokens, NoiseTokens)
        if self.noise_run is not None and self.noise_run < 1:
            raise ValueError(f"noise_run is {self.noise_run}; it must be at least 1")
        for name in ("noise_tokens", "noise_run"):
            if self.noise == 0 and getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect where noise is 0; leave it out")

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The noise."""
        return {"noise": Range(1e-3, 0.3, log=True)}

    @property
    def rate(self) -> float:
        """η."""
        return DEFAULT_NOISE if self.noise is None else self.noise

    @property
    def extra_positions(self) -> int:
        """The number of positions read beyond the target: wrong tokens make prefixes longer."""
        return (self.noise_run or 1) if self.rate else 0

    def for_task(self, task: Task) -> BackspaceMethod:
        """Return this method with the mistakes that the task lists."""
        found = replace(self)
        object.__setattr__(found, "task", task)
        return found

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that mistakes can be planted and withdrawn.

        Raises:
            ValueError: if the vocabulary has no backspace, or the task lists no mistakes.
        """
        if vocabulary.backspace is None:
            raise ValueError(NO_BACKSPACE)
        self.alternatives(vocabulary)

    def alternatives(self, vocabulary: Vocabulary) -> WrongTokens:
        """Return the wrong tokens for each token.

        Raises:
            ValueError: if the task lists no mistakes.
        """
        if self.noise_tokens == "plausible":
            if self.task is None:
                raise ValueError("noise_tokens=plausible needs a task that names mistakes")
            if vocabulary not in self.tables:
                mistakes = self.task.mistakes(vocabulary)
                self.tables[vocabulary] = Alternatives.build(mistakes, vocabulary.actions)
            return self.tables[vocabulary]
        return AnyToken.build(vocabulary.actions, vocabulary.special)

    def insert_noise(self, vocabulary: Vocabulary, batch: Batch, clock: Clock) -> NoisyTargets:
        """Return the targets of a batch as actions, with wrong tokens and backspaces inserted.

        Raises:
            ValueError: as in `check`.
        """
        if vocabulary.backspace is None:
            raise ValueError(NO_BACKSPACE)
        return insert_noise(
            batch.target,
            batch.mask,
            self.alternatives(vocabulary),
            rate=self.rate,
            most=self.noise_run or 1,
            backspace=vocabulary.backspace,
            pad=vocabulary.pad,
            names=(clock.seed, clock.step),
            ids=batch.ids,
        )


@dataclass(frozen=True, kw_only=True)
class BehaviorCloning(BackspaceMethod):
    """-Σ_t log p(a_t | s_t) over targets with inserted wrong tokens, each withdrawn by a backspace.

    Cundy and Ermon 2024, arXiv 2306.05426: maximum likelihood for actions, of which
    backspace is one. The wrong tokens themselves are learned too, as in the paper.

    Raises:
        ValueError: if a setting is out of range.
    """

    name: ClassVar[str] = "behavior_cloning"
    paper: ClassVar[str] = "Cundy and Ermon 2024, arXiv 2306.05426 (MLE + backspace)"
    summary: ClassVar[str] = "maximum likelihood on targets with wrong tokens and backspaces"

    @property
    def needs_backspace(self) -> bool:
        """True, as wrong tokens are withdrawn."""
        return True

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of the actions, divided by the number of target tokens.

        Raises:
            ValueError: if an example has no target, or mistakes cannot be planted.
        """
        batch.target_tokens()
        data = self.insert_noise(policy.vocabulary, batch, clock)
        scored = score_actions(policy, batch.source, data.actions, data.mask, last=False)
        count = batch.mask.sum()
        share = data.planted.sum() / data.mask.sum()
        return Outcome(behavior_cloning_loss(scored), count, {"planted": share})
