"""Free-running evaluation: decode examples, and score the outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from freerun.batch import Batch
from freerun.data import Codec, Examples
from freerun.decoding import Decoded
from freerun.evaluation.backspaces import Backspaces, count_backspaces
from freerun.evaluation.decoding import (
    GREEDY,
    Decoding,
    batches_by_length,
    decode_with_errors,
    on_device,
)
from freerun.losses import log_loss
from freerun.metrics import Statistics, find_position_errors, measure
from freerun.policy import Policy, evaluation_mode
from freerun.tasks.base import Task
from freerun.vocabulary import Vocabulary


def teacher_forced_loss(policy: Policy, examples: Examples, *, batch_size: int = 256) -> float:
    """Compute the mean log loss of a target token when every prefix is the reference.

    This measures the policy under teacher forcing, not free-running, so it is always reported under
    this name.
    """
    total, count = 0.0, 0
    with torch.no_grad(), evaluation_mode(policy):
        for numbers in batches_by_length(examples, batch_size):
            batch = on_device(examples.batch(numbers), policy)
            total += float(teacher_forced_total(policy, batch))
            count += int(find_writable(policy, batch).sum())
    return total / count if count else math.nan


def teacher_forced_total(policy: Policy, batch: Batch) -> Float[Tensor, ""]:
    """Compute the log loss of a batch under teacher forcing, summed over target tokens.

    Symbols of targets that are not in training, whose loss would be infinite, are left out.
    """
    trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
    writable = find_writable(policy, batch)
    return trace.sum_loss(writable, log_loss, batch.target[writable])


def find_writable(policy: Policy, batch: Batch) -> Bool[Tensor, "b t"]:
    """Return where the targets of a batch are tokens that the policy can write."""
    return batch.mask & (batch.target < policy.vocabulary.actions)


@dataclass(frozen=True)
class DecodedExamples:
    """The outputs of a policy for some examples.

    Attributes:
        hypotheses: the tokens of every output, without eos and withdrawn tokens.
        actions: all actions of every output, backspaces and eos included; None if the vocabulary
            has no backspace.
        backspaces: how backspaces were used; None if there are none.
    """

    hypotheses: list[list[int]]
    actions: list[list[int]] | None = None
    backspaces: Backspaces | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of backspaces (see `Backspaces.metrics`); empty if there are none."""
        return {} if self.backspaces is None else self.backspaces.metrics

    @classmethod
    def from_batch(
        cls,
        vocabulary: Vocabulary,
        batch: Batch,
        decoded: Decoded,
        planted: Bool[Tensor, "n u"] | None = None,
    ) -> DecodedExamples:
        """Collect the outputs of a batch.

        Args:
            vocabulary: the vocabulary of the policy.
            batch: the examples.
            decoded: their outputs.
            planted: which actions are planted errors.
        """
        hypotheses = decoded.lists(vocabulary.eos)
        if vocabulary.backspace is None:
            return cls(hypotheses)
        rows = zip(*(each.tolist() for each in decoded.all_actions), strict=True)
        actions = [tokens[: sum(mask)] for tokens, mask in rows]
        return cls(
            hypotheses, actions, count_backspaces(decoded, batch, vocabulary.backspace, planted)
        )

    @classmethod
    def join(cls, parts: Iterable[tuple[list[int], DecodedExamples]]) -> DecodedExamples:
        """Join the outputs of parts of the examples, in the order of all examples.

        Args:
            parts: for each part, the numbers of its examples, and their outputs.
        """
        parts = list(parts)
        numbers = [number for part in parts for number in part[0]]

        def sort(rows: Iterable[list[int]]) -> list[list[int]]:
            return [row for _, row in sorted(zip(numbers, rows, strict=True))]

        hypotheses = sort(row for _, part in parts for row in part.hypotheses)
        counts = [part.backspaces for _, part in parts if part.backspaces is not None]
        if not counts:
            return cls(hypotheses)
        actions = sort(row for _, part in parts for row in part.actions or [])
        return cls(hypotheses, actions, Backspaces.sum(counts))


def decode_examples(
    policy: Policy, examples: Examples, *, decoding: Decoding = GREEDY, batch_size: int = 256
) -> DecodedExamples:
    """Decode every example freely.

    Args:
        policy: the policy, which decodes in evaluation mode.
        examples: the examples, of which only the sources are read.
        decoding: how to decode.
        batch_size: the number of examples decoded together.

    Raises:
        ValueError: if the policy cannot decode like this.
    """
    parts = []
    for numbers in batches_by_length(examples, batch_size):
        batch = on_device(examples.batch(numbers), policy)
        found = decode_with_errors(policy, batch.source, decoding, ids=batch.ids)
        parts.append((numbers, DecodedExamples.from_batch(policy.vocabulary, batch, *found)))
    return DecodedExamples.join(parts)


def decode_hypotheses(
    policy: Policy, examples: Examples, *, decoding: Decoding = GREEDY, batch_size: int = 256
) -> list[list[int]]:
    """Return only the hypotheses of `decode_examples`."""
    return decode_examples(policy, examples, decoding=decoding, batch_size=batch_size).hypotheses


@dataclass(frozen=True)
class Evaluation:
    """The outputs of a policy and their metrics.

    Attributes:
        metrics: the metrics of the task, and those of backspaces (see `Backspaces.metrics`).
        hypotheses: the tokens of every output, without eos and withdrawn tokens.
        references: the target tokens of every example, without eos.
        error_by_position: for every position of a reference, the fraction of examples that are
            wrong there, among those that are long enough.
        count_by_position: for every position, the number of references that are long enough.
        actions: all actions of every output, backspaces and eos included; None if the vocabulary
            has no backspace.
        backspaces: how often backspaces were used; None if there are none.
        statistics: the statistics of every example, of metrics that are computed from them.
        error_after_reference: for every position, the fraction of examples where the policy would
            be wrong after the correct prefix (see `find_reference_errors`); None if not measured.
    """

    metrics: dict[str, float]
    hypotheses: list[list[int]] = field(repr=False)
    references: list[list[int]] = field(repr=False)
    error_by_position: list[float]
    count_by_position: list[int]
    actions: list[list[int]] | None = field(default=None, repr=False)
    backspaces: Backspaces | None = None
    statistics: dict[str, Statistics] = field(default_factory=dict, repr=False)
    error_after_reference: list[float] | None = None


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
        policy: the policy, which decodes in evaluation mode.
        task: the task, which defines the metrics.
        codec: the codec of the policy.
        examples: the examples to evaluate on.
        decoding: how to decode.
        batch_size: the number of examples decoded together.

    Raises:
        ValueError: if there are no examples, or the policy does not support this decoding.
    """
    written = decode_examples(policy, examples, decoding=decoding, batch_size=batch_size)
    return score_decoded(task, codec, written, examples)


def score_decoded(
    task: Task, codec: Codec, written: DecodedExamples, examples: Examples
) -> Evaluation:
    """Score the outputs of a policy, and its use of backspaces.

    Raises:
        ValueError: if there are no examples.
    """
    found = score_outputs(task, codec, written.hypotheses, examples)
    return replace(
        found,
        metrics={**found.metrics, **written.metrics},
        actions=written.actions,
        backspaces=written.backspaces,
    )


def score_outputs(
    task: Task, codec: Codec, hypotheses: list[list[int]], examples: Examples
) -> Evaluation:
    """Score outputs, one for each example.

    Raises:
        ValueError: if there are no examples.
    """
    if not hypotheses:
        raise ValueError("there are no examples to evaluate on")
    references = [list(reference) for reference in examples.references]
    metrics = task.get_metrics()
    wrong = find_position_errors(metrics, codec, hypotheses, examples)
    error_by_position, count_by_position = average_by_position(wrong)
    measured = measure(metrics, codec, hypotheses, examples)
    return Evaluation(
        metrics={name: value for name, (value, _) in measured.items()},
        hypotheses=hypotheses,
        references=references,
        error_by_position=error_by_position,
        count_by_position=count_by_position,
        statistics={name: rows for name, (_, rows) in measured.items() if rows is not None},
    )


def average_by_position(wrong: Sequence[Sequence[bool]]) -> tuple[list[float], list[int]]:
    """Average errors over the examples that are long enough, for every position.

    Args:
        wrong: for every example and position, whether it is wrong there.

    Returns:
        The fraction of errors at every position, and the number of examples.
    """
    columns = [[error for error in column if error is not None] for column in zip_longest(*wrong)]
    return [sum(column) / len(column) for column in columns], list(map(len, columns))
