"""Self-distillation: the teacher is the model itself, which reads the reference as a hint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from freerun.batch import Batch
from freerun.data import Codec
from freerun.data.codec import WritingCodec
from freerun.losses import log_loss
from freerun.methods.base import (
    NO_MODULES,
    Clock,
    Modules,
    Outcome,
    check_range,
    check_warm_up,
    copy_delayed,
    move_parameters,
)
from freerun.methods.contexts import Context, get_separator
from freerun.methods.gkd import DistillationMethod
from freerun.methods.samples import Samples, count_text
from freerun.methods.tuning import Choice, Range, Space
from freerun.policy import Policy, Trace
from freerun.randomness import uniform
from freerun.vocabulary import Vocabulary

REFERENCE = "{reference}"


@dataclass(frozen=True, kw_only=True)
class SelfDistillation(DistillationMethod):
    """The divergence between the model with a hint, the teacher, and the model without it.

    Shenfeld, Damani, Hübotter, Agrawal 2026, *Self-Distillation Enables Continual Learning*, arXiv
    2601.19897 (SDFT); Hübotter et al. 2026, *Reinforcement Learning via Self-Distillation*, arXiv
    2601.20802 (SDPO). The hint is the reference, which the teacher reads after the source and
    before the output.

    Args:
        share: λ, the probability that an example is learned on the model's own output instead of
            its target; in [0, 1].
        beta: β of the generalized Jensen-Shannon divergence, in [0, 1]: 0 is the forward KL
            divergence from the teacher, 1 the reverse.
        stretch: the maximum length of an own output, as a multiple of the target with its eos; at
            least 1.
        hint: the fraction of the reference, from its beginning, that the teacher reads; in [0, 1].
        template: the text of the hint, in which {reference} stands for the reference; by default
            the reference and eos.
        decay: the weight of the teacher's parameters in their moving average with those of the
            model, in every update; in [0, 1]. With 0, the teacher is the model itself; with 1, the
            model as it was after the warm-up.
        warm_up: the fraction of updates, at the start of training, that are log loss of the
            reference, half of it after the hint, so that a model learns to use it; in [0, 1). None
            is needed if the model understands the template.

    Raises:
        ValueError: if a setting is out of range, or the template has not one {reference}.
    """

    name: ClassVar[str] = "self_distillation"
    paper: ClassVar[str] = (
        "Shenfeld et al. 2026, arXiv 2601.19897; Hübotter et al. 2026, 2601.20802"
    )
    summary: ClassVar[str] = "learns what the model itself would write if it knew the reference"

    share: float = 1.0
    hint: float = 1.0
    template: str | None = None
    decay: float = 1.0
    warm_up: float = 0.5
    words: tuple[tuple[int, ...], tuple[int, ...]] | None = field(
        init=False, default=None, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("hint", self.hint, 0, 1)
        check_range("decay", self.decay, 0, 1)
        check_warm_up(self.warm_up)
        if self.template is not None and self.template.count(REFERENCE) != 1:
            raise ValueError(f"template is {self.template!r}; it must have one {REFERENCE}")

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The divergence, the moving average, and the warm-up."""
        return {
            "beta": Range(0.0, 1.0),
            "decay": Choice((0.0, 0.9, 0.99, 1.0)),
            "warm_up": Range(0.1, 0.9),
        }

    def for_codec(self, codec: Codec) -> SelfDistillation:
        """Return this method with the tokens of the template.

        Raises:
            ValueError: if outputs are not text, or the template has unknown tokens.
        """
        found = replace(self)
        if self.template is not None:
            if not isinstance(codec, WritingCodec):
                raise ValueError("template needs outputs that are text; leave it out")
            encode = partial(codec.tokenizer.encode, add_special_tokens=False)
            before, after = self.template.split(REFERENCE)
            words = tuple(encode(before)), tuple(encode(after))
            # Tokenizers without an unknown token drop characters that they do not know.
            lost = [c for c in before + after if not (c.isspace() or encode(c))]
            if lost or codec.target.unknown in words[0] + words[1]:
                raise ValueError(
                    f"template is {self.template!r}; the vocabulary lacks some of its tokens"
                )
            object.__setattr__(found, "words", words)
        return found

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that outputs end in eos, and have no backspaces.

        Raises:
            ValueError: if they do not, or have.
        """
        super().check(vocabulary)
        get_separator(vocabulary, self.name)

    def build_modules(self, policy: Policy) -> Modules:
        """Copy the model as the teacher, unless it is the model itself."""
        if self.decay == 0:
            return Modules()
        return Modules(frozen={"teacher": copy_delayed(policy, 1 - self.decay)})

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of the reference in the warm-up, and the divergence after it.

        Raises:
            ValueError: if an example has no target.
        """
        targets = batch.target_tokens()
        if clock.step < self.warm_up * clock.total:
            hinted = uniform(clock.seed, "hint", clock.step, batch.ids) < 0.5
            context = self.build_hint(batch, policy.vocabulary, hinted)
            trace, cells = context.read(policy, batch.source, batch.target, batch.mask)
            return Outcome(trace.sum_loss(cells, log_loss, targets), batch.mask.sum())
        teacher = policy if self.decay == 0 else modules.get_policy("teacher")

        def read(outputs: Samples) -> tuple[Trace, Bool[Tensor, "b u"]]:
            context = self.build_hint(batch, policy.vocabulary)
            return context.read(teacher, batch.source, outputs.tokens, outputs.mask)

        return self.distill(policy, batch, clock, teacher, read)

    def build_hint(
        self, batch: Batch, vocabulary: Vocabulary, hinted: Bool[Tensor, "b"] | None = None
    ) -> Context:
        """Return what the teacher reads before outputs.

        Args:
            batch: the examples.
            vocabulary: the vocabulary of outputs.
            hinted: the examples that have a hint; by default all. None has one if `hint` is 0.

        Raises:
            ValueError: if outputs do not end in eos, or `for_codec` must be called first.
        """
        eos = get_separator(vocabulary, self.name)
        if self.template is not None and self.words is None:
            raise ValueError("template is text; call for_codec first")
        before, after = self.words or ((), ())
        lengths = count_text(batch.target, batch.lengths, eos)
        lengths = (lengths * self.hint).ceil().long()
        present = torch.full_like(batch.ids, self.hint > 0, dtype=torch.bool)
        if hinted is not None:
            present = present & hinted
        return Context(before, batch.target, lengths, after or (eos,), present)

    def after_update(self, policy: Policy, clock: Clock, modules: Modules = NO_MODULES) -> None:
        """Move the teacher; at the end of the warm-up, it becomes the model."""
        start, done = math.ceil(self.warm_up * clock.total), clock.step + 1
        if self.decay == 0 or done < start:
            return
        weight = 1.0 if done == start else 1 - self.decay
        move_parameters(modules["teacher"], policy, weight)
