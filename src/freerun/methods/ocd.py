"""Optimal completion distillation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.costs.rows import mask_unknown
from freerun.decoding import promote_scores
from freerun.methods.base import (
    NO_MODULES,
    Clock,
    Method,
    Modules,
    Outcome,
    check_choice,
    check_range,
    refuse_backspace,
)
from freerun.methods.samples import Samples, count_text, draw_samples, write_greedily
from freerun.methods.scheduled_sampling import Feedback
from freerun.methods.tuning import Choice, Space
from freerun.policy import Policy
from freerun.references import mark_next_tokens, nearest_prefix_table
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class OCD(Method):
    """Log loss of the optimal next tokens after the policy's own prefixes, averaged over them.

    Sabour, Chan, Norouzi 2019, *Optimal Completion Distillation for Sequence Learning*, arXiv
    1810.01398. A token is optimal if the minimum edit distance to the reference can still be
    reached after it. These tokens are read off the table of edit distances, so nothing is rolled
    out.

    Args:
        feedback: how the policy writes its outputs: `sample`, as in the paper, or `greedy`.
        stretch: the maximum length of an output, as a multiple of the target with its eos; at least
            1.

    Raises:
        ValueError: if a setting is out of range.
    """

    name: ClassVar[str] = "ocd"
    paper: ClassVar[str] = "Sabour et al. 2019, arXiv 1810.01398"
    summary: ClassVar[str] = "learns the tokens that lead to the least edit distance from here"

    feedback: Feedback = "sample"
    stretch: float = 1.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_choice("feedback", self.feedback, Feedback)
        check_range("stretch", self.stretch, 1)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """How own outputs are written."""
        return {"feedback": Choice(("greedy", "sample"))}

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that outputs end in eos, and cannot have backspaces.

        Raises:
            ValueError: if they do not, or can.
        """
        refuse_backspace(vocabulary, self.name)
        _find_eos(vocabulary)

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the loss at all cells of own outputs, divided by the number of target tokens.

        Raises:
            ValueError: if an example has no target, or outputs do not end in eos.
        """
        batch.target_tokens()
        if self.feedback == "sample":
            own = draw_samples(policy, batch, 1, clock, stretch=self.stretch)
        else:
            own = write_greedily(policy, batch, stretch=self.stretch)
        vocabulary, parts = policy.vocabulary, []
        eos = _find_eos(vocabulary)

        def compute(
            scores: Tensor, tokens: Tensor, targets: Tensor, lengths: Tensor, best: Tensor
        ) -> Tensor:
            optimal = mark_next_tokens(targets, lengths, best, vocabulary.actions, eos)
            parts.append(optimal.gather(1, tokens[:, None]))
            log_probs = promote_scores(scores).log_softmax(-1)
            return -(log_probs.masked_fill(~optimal, 0).sum(1) / optimal.sum(1)).sum()

        given = own.tokens[own.mask], *find_best_prefixes(own, batch, vocabulary)
        total = own.read(policy, batch).sum_loss(own.mask, compute, *given)
        metrics = {"optimal": torch.cat(parts).to(total.dtype).mean()}
        return Outcome(total, batch.mask.sum(), metrics)


def find_best_prefixes(
    own: Samples, batch: Batch, vocabulary: Vocabulary
) -> tuple[Int[Tensor, "m r"], Int[Tensor, "m"], Bool[Tensor, "m r+1"]]:
    """Find the prefixes of targets that can be continued at every cell of own outputs, row by row.

    Returns:
        The target of each cell, its length without eos, and which of its prefixes, by their length;
        the first three arguments of `mark_next_tokens`.

    Raises:
        ValueError: if outputs do not end in eos.
    """
    eos, unknown = _find_eos(vocabulary), vocabulary.unknown
    targets = batch.target[own.rows]
    lengths = count_text(targets, batch.lengths[own.rows], eos)
    table = nearest_prefix_table(own.tokens, own.mask.sum(1), targets, lengths, unknown=unknown)
    rows = own.mask.nonzero()[:, 0]
    marked = mask_unknown(targets, unknown).long()[rows]
    return marked, lengths[rows], table[:, :-1][own.mask]


def _find_eos(vocabulary: Vocabulary) -> int:
    if vocabulary.eos is None:
        raise ValueError(
            "ocd needs outputs that end in eos; if they are as long as their sources, the optimal "
            "token is that of the target: use scheduled_sampling:schedule=constant,k=0"
        )
    return vocabulary.eos
