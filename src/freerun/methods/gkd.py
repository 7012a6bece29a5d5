"""Generalized knowledge distillation: a teacher's distributions on own outputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from freerun.batch import Batch, join_rows
from freerun.losses import generalized_jsd
from freerun.methods.base import (
    NO_MODULES,
    Clock,
    Method,
    Modules,
    Outcome,
    PolicyLoader,
    check_range,
    refuse_backspace,
)
from freerun.methods.samples import Samples, draw_samples
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy, Trace, evaluation_mode
from freerun.randomness import uniform
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class DistillationMethod(Method):
    """Base of methods that learn the distributions of a teacher.

    Args:
        share: λ, the probability that an example is learned on the student's own output instead of
            its target; in [0, 1].
        beta: β of the generalized Jensen-Shannon divergence, in [0, 1]: 0 is the forward KL
            divergence from the teacher, 1 the reverse.
        stretch: the maximum length of an own output, as a multiple of the target with its eos; at
            least 1.

    Raises:
        ValueError: if a setting is out of range.
    """

    share: float = 0.5
    beta: float = 0.5
    stretch: float = 1.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("share", self.share, 0, 1)
        check_range("beta", self.beta, 0, 1)
        check_range("stretch", self.stretch, 1)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The share of own outputs, and the divergence."""
        return {"share": Range(0.0, 1.0), "beta": Range(0.0, 1.0)}

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that outputs have no backspaces.

        Raises:
            ValueError: if they have.
        """
        refuse_backspace(vocabulary, self.name)

    def distill(
        self,
        policy: Policy,
        batch: Batch,
        clock: Clock,
        teacher: Policy,
        read: Callable[[Samples], tuple[Trace, Bool[Tensor, "b u"]]],
    ) -> Outcome:
        """Compute the divergence at all tokens, divided by their number.

        Args:
            policy: the student.
            batch: the examples.
            clock: the progress of training.
            teacher: the teacher, which is in evaluation mode while it reads and scores.
            read: lets the teacher read outputs; returns its trace, and the cells of their tokens.
        """
        own = uniform(clock.seed, self.name, clock.step, batch.ids) < self.share
        outputs = self.write(policy, batch, own, clock, teacher)
        with torch.no_grad(), evaluation_mode(teacher):
            taught, cells = read(outputs)

        def compare(scores: Tensor, numbers: Tensor) -> Tensor:
            with torch.no_grad(), evaluation_mode(teacher):
                wanted = taught.some_logits(cells, numbers)
            return generalized_jsd(scores, wanted, beta=self.beta).sum()

        count = outputs.mask.sum()
        numbers = torch.arange(int(count), device=count.device)
        total = outputs.read(policy, batch).sum_loss(outputs.mask, compare, numbers)
        return Outcome(total, count, {"own_share": outputs.mask[own].sum() / count})

    def write(
        self, policy: Policy, batch: Batch, own: Bool[Tensor, "b"], clock: Clock, teacher: Policy
    ) -> Samples:
        """Return the targets, and samples of the student for the examples of `own`.

        No sample is longer than the target unless the teacher has positions for it.
        """
        rows = torch.arange(len(batch.ids), device=batch.ids.device)
        chosen = rows[own]
        if len(chosen) == 0:
            return Samples(rows, batch.target, batch.mask)
        some, max_lengths = batch.select(chosen), None
        if teacher.max_positions is not None:
            max_lengths = teacher.max_positions - teacher.prompt_lengths(some.source)
        drawn = draw_samples(policy, some, 1, clock, stretch=self.stretch, max_lengths=max_lengths)
        tokens = join_rows(batch.target, drawn.tokens)
        mask = join_rows(batch.mask, drawn.mask)
        places = rows.index_copy(0, chosen, len(rows) + rows[: len(chosen)])
        return Samples(rows, tokens[places], mask[places]).trim()


@dataclass(frozen=True, kw_only=True)
class GKD(DistillationMethod):
    """The divergence between teacher and student at every token of own outputs and targets.

    Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem 2024, *On-Policy Distillation of
    Language Models: Learning from Self-Generated Mistakes*, arXiv 2306.13649, algorithm 1.

    Args:
        teacher: the folder of a model with the same tokens: one that freerun trained, or any
            Hugging Face model; required. In Python also a `freerun.policy.Policy`.
        share: λ, the probability that an example is learned on the student's own output instead of
            its target; in [0, 1].
        beta: β of the generalized Jensen-Shannon divergence, in [0, 1]: 0 is the forward KL
            divergence from the teacher, 1 the reverse.
        stretch: the maximum length of an own output, as a multiple of the target with its eos; at
            least 1.

    Raises:
        ValueError: if a setting is out of range.
    """

    name: ClassVar[str] = "gkd"
    paper: ClassVar[str] = "Agarwal et al. 2024, arXiv 2306.13649"
    summary: ClassVar[str] = "learns the distributions of a better model, on own outputs too"

    teacher: str | Policy | None = None
    loaded: Policy | None = field(init=False, default=None, repr=False, compare=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> GKD:
        """Return the method itself: it has no state, and a teacher takes much memory."""
        return self

    def with_loader(self, load: PolicyLoader) -> GKD:
        """Return this method with its teacher, loaded from its folder.

        It is not part of checkpoints, and loaded again when a run is resumed.
        """
        if not isinstance(self.teacher, str) or self.loaded is not None:
            return self
        found = replace(self)
        # Autocast keeps a copy of weights that have a gradient.
        object.__setattr__(found, "loaded", load(self.teacher).requires_grad_(False))
        return found

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that there is a teacher with this vocabulary, and outputs have no backspaces.

        Raises:
            ValueError: if there is none, or they have.
        """
        super().check(vocabulary)
        self.find_teacher(vocabulary)

    def find_teacher(self, vocabulary: Vocabulary) -> Policy:
        """Return the teacher, which `distill` runs in evaluation mode and without gradients.

        Raises:
            ValueError: if there is none, it is not loaded, or it has another vocabulary.
        """
        teacher = self.loaded or self.teacher
        if teacher is None:
            raise ValueError("gkd needs a teacher, the folder of a trained model: set teacher")
        if isinstance(teacher, str):
            raise ValueError(
                f"the teacher {teacher!r} is not loaded: train with freerun.training, or give the "
                "policy itself"
            )
        if teacher.vocabulary != vocabulary:
            raise ValueError("the teacher of gkd has another vocabulary than the student")
        return teacher

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the divergence at all tokens, divided by their number.

        Raises:
            ValueError: if an example has no target, or the teacher is missing.
        """
        batch.target_tokens()
        teacher = self.find_teacher(policy.vocabulary)
        if teacher.device != batch.target.device:
            teacher.to(batch.target.device)

        def read(outputs: Samples) -> tuple[Trace, Bool[Tensor, "b u"]]:
            return outputs.read(teacher, batch), outputs.mask

        return self.distill(policy, batch, clock, teacher, read)
