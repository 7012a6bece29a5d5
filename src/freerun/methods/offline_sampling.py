"""Learning from own outputs that are written once in a while: mixed prefixes, and corrections."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, Source, join_rows
from freerun.costs.rows import length_mask
from freerun.losses import log_loss
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
from freerun.methods.contexts import Context, get_separator
from freerun.methods.replay_buffer import ReplayBuffer
from freerun.methods.samples import count_text, draw_samples, write_greedily
from freerun.methods.scheduled_sampling import Feedback, ScheduledSampling
from freerun.methods.tuning import Choice, Range, Space
from freerun.policy import Policy, evaluation_mode
from freerun.randomness import below, uniform
from freerun.trajectories import write_outputs
from freerun.vocabulary import Vocabulary

Sequences = tuple[Int[Tensor, "b _"], Bool[Tensor, "b _"]]
"""Sequences, and their masks."""


@dataclass(frozen=True, kw_only=True)
class OfflineMethod(Method):
    """Base of methods whose own outputs are written in some updates, and learned in many.

    Cen et al. 2024, *Bridging the Training-Inference Gap in LLMs by Leveraging Self-Generated
    Tokens*, arXiv 2410.14655.

    Args:
        share: the probability that an example is replaced by one of the buffer; in [0, 1].
        period: the number of updates between samplings, each for the examples of one update.
        samplings: the number of samplings that the buffer holds.

    Raises:
        ValueError: if a setting is out of range.
    """

    paper: ClassVar[str] = "Cen et al. 2024, arXiv 2410.14655"

    share: float = 0.5
    period: int = 10
    samplings: int = 10
    buffer: ReplayBuffer = field(
        init=False,
        default_factory=lambda: ReplayBuffer(("written", "targets")),
        repr=False,
        compare=False,
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("share", self.share, 0, 1)
        check_range("period", self.period, 1)
        check_range("samplings", self.samplings, 1)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The share of the buffer."""
        return {"share": Range(0.1, 1.0)}

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of targets, some of which are those of the buffer.

        Raises:
            ValueError: if an example has no target.
        """
        batch.target_tokens()
        if clock.step % self.period == 0:
            written = self.write(policy, batch, clock)
            self.buffer.add(
                batch.ids, batch.source, clock.step, written, (batch.target, batch.mask)
            )
        replayed = uniform(clock.seed, "replay", clock.step, batch.ids) < self.share
        if len(self.buffer) == 0:
            replayed = torch.zeros_like(replayed)
        mixed, written, steps = self._replace(policy, batch, replayed, clock)
        total, metrics = self.learn(policy, mixed, replayed, *written)
        count = mixed.mask.sum()
        metrics["replayed"] = mixed.mask[replayed].sum() / count
        metrics["staleness"] = ((clock.step - steps) * mixed.lengths).sum() / count
        return Outcome(total, count, metrics)

    @abstractmethod
    def write(self, policy: Policy, batch: Batch, clock: Clock) -> Sequences:
        """Let the policy write, without gradient, what the buffer holds for each example."""

    @abstractmethod
    def learn(
        self,
        policy: Policy,
        batch: Batch,
        replayed: Bool[Tensor, "b"],
        written: Int[Tensor, "b k"],
        mask: Bool[Tensor, "b k"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Compute the loss and metrics of examples, given what was written for those of the buffer.

        Args:
            policy: the model.
            batch: examples of the data and of the buffer.
            replayed: which of them are from the buffer.
            written: what was written for these; nothing for the others.
            mask: true on the tokens of `written`, false on padding.
        """

    def after_update(self, policy: Policy, clock: Clock, modules: Modules = NO_MODULES) -> None:
        """Add what was written in this update to the buffer."""
        self.buffer.commit(self.samplings)

    def state_dict(self) -> dict[str, Any]:
        """Return the buffer."""
        return self.buffer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the buffer."""
        self.buffer.load_state_dict(state)

    def _replace(
        self, policy: Policy, batch: Batch, replayed: Bool[Tensor, "b"], clock: Clock
    ) -> tuple[Batch, Sequences, Int[Tensor, "b"]]:
        """Replace examples by those of the buffer; also return what was written, and when."""
        rows = torch.arange(len(batch.ids), device=batch.ids.device)
        steps = torch.full_like(rows, clock.step)
        chosen, nothing = rows[replayed], (batch.target[:, :0], batch.mask[:, :0])
        if len(chosen) == 0:
            return batch, nothing, steps
        pad, ids = policy.vocabulary.pad, batch.ids[chosen]
        numbers = below(len(self.buffer), clock.seed, "buffer", clock.step, ids)
        found = self.buffer.draw(numbers, pad)
        places = rows.index_copy(0, chosen, len(rows) + rows[: len(chosen)])

        def merge(
            kept: tuple[Tensor, Tensor], drawn: tuple[Tensor, Tensor], fill: int = pad
        ) -> tuple[Tensor, Tensor]:
            mask = join_rows(kept[1], drawn[1])[places]
            width = max(1, int(mask.sum(1).max()))
            return join_rows(kept[0], drawn[0], fill=fill)[places][:, :width], mask[:, :width]

        here, there = ((each.values, each.mask) for each in (batch.source, found.source))
        source = merge(here, there, 0)
        target, written = found.rows["targets"], found.rows["written"]
        mixed = Batch(batch.ids, Source(*source), *merge((batch.target, batch.mask), target))
        return mixed, merge(nothing, written), steps.index_copy(0, chosen, found.steps)


@dataclass(frozen=True, kw_only=True)
class OfflineScheduledSampling(OfflineMethod, ScheduledSampling):
    """Scheduled sampling whose own tokens are written once in a while, into a buffer.

    Batch-scheduled sampling of Cen et al. 2024, arXiv 2410.14655. The buffer holds examples with
    prefixes that mix reference tokens and own ones, as `scheduled_sampling` reads them, written
    with the ε of their update. Examples of the data are read with the reference alone.

    Args:
        share: the probability that an example is replaced by one of the buffer; in [0, 1].
        period: the number of updates between samplings, each for the examples of one update.
        samplings: the number of samplings that the buffer holds.
        passes: the number of passes over whole rows in a sampling, at least 2, of which the last is
            not run; None to choose own tokens cell by cell.

    Raises:
        ValueError: if a setting is out of range, missing, or has no effect on this schedule.
    """

    name: ClassVar[str] = "offline_scheduled_sampling"
    paper: ClassVar[str] = OfflineMethod.paper
    summary: ClassVar[str] = "scheduled sampling at the price of maximum likelihood, from a buffer"

    def __post_init__(self) -> None:
        """Check the ranges."""
        OfflineMethod.__post_init__(self)
        ScheduledSampling.__post_init__(self)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The share of the buffer, and the schedule."""
        return {**super().tuning, **super(OfflineMethod, self).tuning}

    def write(self, policy: Policy, batch: Batch, clock: Clock) -> Sequences:
        """Return what every cell reads."""
        return self.roll_in(policy, batch, clock)[0], batch.mask

    def learn(
        self,
        policy: Policy,
        batch: Batch,
        replayed: Bool[Tensor, "b"],
        written: Int[Tensor, "b k"],
        mask: Bool[Tensor, "b k"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Compute the log loss of the targets; see `OfflineMethod.learn`."""
        reference = batch.inputs(policy.vocabulary.bos)
        inputs = reference.clone()
        inputs[:, : mask.shape[1]] = torch.where(mask, written, reference[:, : mask.shape[1]])
        trace = policy.force(batch.source, inputs)
        total = trace.sum_loss(batch.mask, log_loss, batch.target_tokens())
        different = (inputs != reference) & batch.mask
        return total, {"different": different.sum() / batch.mask.sum()}


@dataclass(frozen=True, kw_only=True)
class AnswerCorrection(OfflineMethod):
    """Log loss of the target, after an answer of the model itself was read.

    Reference-answer-based correction of Cen et al. 2024, arXiv 2410.14655. The answer is read as
    the beginning of the output; `correct_answers` lets a trained model use this.

    Args:
        share: the probability that an example is replaced by one of the buffer, with an answer; in
            [0, 1].
        period: the number of updates between samplings, each for the examples of one update.
        samplings: the number of samplings that the buffer holds.
        feedback: how answers are written: `greedy`, or `sample`.
        stretch: the maximum length of an answer, as a multiple of the target with its eos; at least
            1.

    Raises:
        ValueError: if a setting is out of range.
    """

    name: ClassVar[str] = "answer_correction"
    summary: ClassVar[str] = "learns to correct its own answers, and to answer as usual"

    feedback: Feedback = "greedy"
    stretch: float = 1.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_choice("feedback", self.feedback, Feedback)
        check_range("stretch", self.stretch, 1)

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The share of the buffer, and how answers are written."""
        return {**super().tuning, "feedback": Choice(("greedy", "sample"))}

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that answers end in eos, and have no backspaces.

        Raises:
            ValueError: if they do not, or have.
        """
        refuse_backspace(vocabulary, self.name)
        get_separator(vocabulary, self.name)

    def write(self, policy: Policy, batch: Batch, clock: Clock) -> Sequences:
        """Return an answer to each example, with its eos if it has one."""
        if self.feedback == "greedy":
            found = write_greedily(policy, batch, stretch=self.stretch)
        else:
            found = draw_samples(policy, batch, 1, clock, stretch=self.stretch)
        return found.tokens, found.mask

    def learn(
        self,
        policy: Policy,
        batch: Batch,
        replayed: Bool[Tensor, "b"],
        written: Int[Tensor, "b k"],
        mask: Bool[Tensor, "b k"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Compute the log loss of the targets; see `OfflineMethod.learn`."""
        context = read_answers(policy.vocabulary, written, mask, replayed)
        trace, cells = context.read(policy, batch.source, batch.target, batch.mask)
        return trace.sum_loss(cells, log_loss, batch.target_tokens()), {}


def read_answers(
    vocabulary: Vocabulary,
    tokens: Int[Tensor, "b k"],
    mask: Bool[Tensor, "b k"],
    present: Bool[Tensor, "b"],
) -> Context:
    """Return answers as a context, each followed by eos, even if it was cut off.

    Raises:
        ValueError: if there is no eos.
    """
    lengths, eos = mask.sum(1), get_separator(vocabulary, AnswerCorrection.name)
    if tokens.shape[1]:
        lengths = count_text(tokens, lengths, eos)
    return Context((), tokens, lengths, (eos,), present)


@torch.no_grad()
def correct_answers(
    policy: Policy, source: Source, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, "b"]
) -> tuple[Int[Tensor, "b u"], Int[Tensor, "b"]]:
    """Let a policy that was trained by `AnswerCorrection` write corrected answers, greedily.

    Args:
        policy: the model; writes in evaluation mode.
        source: the sources.
        tokens: the answers of the model, eos included.
        lengths: their numbers of tokens.

    Returns:
        The tokens of corrected answers, eos included, and their numbers.

    Raises:
        ValueError: if a source and its answer leave no position to write at.
    """
    present = torch.ones_like(lengths, dtype=torch.bool)
    mask = length_mask(tokens.shape[1], lengths)
    context = read_answers(policy.vocabulary, tokens, mask, present)
    context = context.shorten(policy, source, torch.ones_like(lengths))
    limit = policy.limit(source)
    with evaluation_mode(policy):
        begun = context.begin(policy, source)
    if policy.max_positions is not None:
        used = policy.prompt_lengths(source) + context.join()[1]
        limit = torch.minimum(limit, policy.max_positions - used)
    return write_outputs(policy, source, limit, begun=begun)
