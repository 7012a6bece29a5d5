"""How good it is what a policy writes when it runs freely."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from freerun.batch import Batch
from freerun.data import Codec, Examples
from freerun.decoding import Decoded
from freerun.evaluation.backspaces import Backspaces, backspaces_of
from freerun.evaluation.decoding import GREEDY, Decoding, attempt, batches_by_length, on_device
from freerun.losses import log_loss
from freerun.policy import Policy, evaluation_mode
from freerun.tasks.base import Task
from freerun.vocabulary import Vocabulary


def teacher_forced_loss(policy: Policy, examples: Examples, *, batch_size: int = 256) -> float:
    """The mean log loss of a target token when every prefix is the reference.

    It says how well the policy predicts under teacher forcing, which is not how it runs; whoever
    reports it calls it by this name.
    """
    total, count = 0.0, 0
    with torch.no_grad(), evaluation_mode(policy):
        for numbers in batches_by_length(examples, batch_size):
            batch = on_device(examples.batch(numbers), policy)
            total += float(teacher_forced_total(policy, batch))
            count += int(batch.mask.sum())
    return total / count


def teacher_forced_total(policy: Policy, batch: Batch) -> Float[Tensor, ""]:
    """The log loss of a batch under teacher forcing, summed over target tokens."""
    trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
    return log_loss(trace.logits(batch.mask), batch.target[batch.mask])


@dataclass(frozen=True)
class Written:
    """What a policy wrote.

    Attributes:
        hypotheses: what remained for every example, without eos.
        actions: all that was done for it, backspaces and eos included; None where the vocabulary
            has no backspace.
        backspaces: how backspaces were used; None likewise.
    """

    hypotheses: list[list[int]]
    actions: list[list[int]] | None = None
    backspaces: Backspaces | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """How backspaces were used (see `Backspaces.metrics`); nothing where there are none."""
        return {} if self.backspaces is None else self.backspaces.metrics

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        batch: Batch,
        decoded: Decoded,
        planted: Bool[Tensor, "n u"] | None = None,
    ) -> Written:
        """What was written for a batch.

        Args:
            vocabulary: that of the policy.
            batch: the examples.
            decoded: what was written.
            planted: which actions are planted errors.
        """
        hypotheses = decoded.lists(vocabulary.eos)
        if vocabulary.backspace is None:
            return cls(hypotheses)
        rows = zip(*(each.tolist() for each in decoded.taken), strict=True)
        actions = [tokens[: sum(mask)] for tokens, mask in rows]
        return cls(
            hypotheses, actions, backspaces_of(decoded, batch, vocabulary.backspace, planted)
        )

    @classmethod
    def joined(cls, parts: Iterable[tuple[list[int], Written]]) -> Written:
        """What was written for all examples, in their order.

        Args:
            parts: the numbers of some examples, and what was written for them; together all.
        """
        parts = list(parts)
        numbers = [number for part in parts for number in part[0]]

        def ordered(rows: Iterable[list[int]]) -> list[list[int]]:
            return [row for _, row in sorted(zip(numbers, rows, strict=True))]

        hypotheses = ordered(row for _, part in parts for row in part.hypotheses)
        counts = [part.backspaces for _, part in parts if part.backspaces is not None]
        if not counts:
            return cls(hypotheses)
        actions = ordered(row for _, part in parts for row in part.actions or [])
        return cls(hypotheses, actions, Backspaces.sum(counts))


def write(
    policy: Policy, examples: Examples, *, decoding: Decoding = GREEDY, batch_size: int = 256
) -> Written:
    """What the policy writes for every example when it runs freely.

    Args:
        policy: the model; decodes in evaluation mode.
        examples: what to decode from.
        decoding: how.
        batch_size: examples decoded together.

    Raises:
        ValueError: where the policy cannot be decoded so.
    """
    parts = []
    for numbers in batches_by_length(examples, batch_size):
        batch = on_device(examples.batch(numbers), policy)
        found = attempt(policy, batch.source, decoding, ids=batch.ids)
        parts.append((numbers, Written.of(policy.vocabulary, batch, *found)))
    return Written.joined(parts)


def outputs(
    policy: Policy, examples: Examples, *, decoding: Decoding = GREEDY, batch_size: int = 256
) -> list[list[int]]:
    """What remains of what the policy writes for every example, without eos (see `write`)."""
    return write(policy, examples, decoding=decoding, batch_size=batch_size).hypotheses


@dataclass(frozen=True)
class Evaluation:
    """What a policy wrote, and how good it is.

    Attributes:
        metrics: the task's metrics, and how backspaces were used (see `Backspaces.metrics`) where
            the vocabulary has one.
        hypotheses: what was written for every example, without eos.
        references: what should have been written, without eos.
        error_by_position: for every position of a reference, the share of examples that are wrong
            there, among those that are long enough.
        count_by_position: how many examples are long enough.
        actions: all that was done for every example, backspaces and eos included; None where the
            vocabulary has no backspace.
        backspaces: how backspaces were used, counted; None likewise.
    """

    metrics: dict[str, float]
    hypotheses: list[list[int]] = field(repr=False)
    references: list[list[int]] = field(repr=False)
    error_by_position: list[float]
    count_by_position: list[int]
    actions: list[list[int]] | None = field(default=None, repr=False)
    backspaces: Backspaces | None = None


def evaluate(
    policy: Policy,
    task: Task,
    codec: Codec,
    examples: Examples,
    *,
    decoding: Decoding = GREEDY,
    batch_size: int = 256,
) -> Evaluation:
    """Decode every example freely, and score the outputs.

    Args:
        policy: the model; decodes in evaluation mode.
        task: knows the metrics.
        codec: what the policy reads and writes.
        examples: what to evaluate on.
        decoding: how to decode.
        batch_size: examples decoded together.

    Raises:
        ValueError: where there are no examples, or the policy cannot be decoded so.
    """
    written = write(policy, examples, decoding=decoding, batch_size=batch_size)
    found = scored(task, codec, written.hypotheses, examples)
    return replace(
        found,
        metrics={**found.metrics, **written.metrics},
        actions=written.actions,
        backspaces=written.backspaces,
    )


def scored(task: Task, codec: Codec, hypotheses: list[list[int]], examples: Examples) -> Evaluation:
    """The evaluation of outputs, one for each example.

    Raises:
        ValueError: where there are no examples.
    """
    if not hypotheses:
        raise ValueError("there are no examples to evaluate on")
    references = [list(reference) for reference in examples.references]
    unknown = codec.target.unknown
    wrong = [
        task.position_errors(hypothesis, [-1 if t == unknown else t for t in reference])
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    at_position = [
        [error for error in column if error is not None] for column in zip_longest(*wrong)
    ]
    return Evaluation(
        metrics=task.score(codec, hypotheses, examples),
        hypotheses=hypotheses,
        references=references,
        error_by_position=[sum(column) / len(column) for column in at_position],
        count_by_position=[len(column) for column in at_position],
    )
