"""Free-running evaluation: what a policy writes when nobody holds its hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from jaxtyping import Float
from torch import Tensor

from freerun.batch import Batch, Source
from freerun.losses import log_loss
from freerun.policy import Policy
from freerun.rolling import Decoded, beam_search, evaluation_mode, greedy
from freerun.tasks.base import Codec, Examples, Task


@dataclass(frozen=True)
class Decoding:
    """How outputs are decoded.

    Args:
        beam: hypotheses kept for each sentence; 1 is greedy decoding.
        length_penalty: a hypothesis y of a beam scores log p(y) / |y|^length_penalty: 0 compares
            log-probabilities, 1 their means per token.

    Raises:
        ValueError: where a setting is out of range or has no effect.
    """

    beam: int = 1
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.beam < 1:
            raise ValueError(f"beam is {self.beam}; it must be at least 1")
        if self.length_penalty < 0:
            raise ValueError(f"length_penalty is {self.length_penalty}; it must be at least 0")
        if self.beam == 1 and self.length_penalty != 1.0:
            raise ValueError("length_penalty has no effect on greedy decoding; set beam above 1")


GREEDY = Decoding()


@dataclass(frozen=True)
class Evaluation:
    """What a policy wrote, and how good it is.

    Attributes:
        metrics: the task's metrics.
        hypotheses: what was written for every example, without eos.
        references: what should have been written, without eos.
        error_by_position: for every position of a reference, the share of examples that are wrong
            there, among those that are long enough.
        count_by_position: how many examples are long enough.
    """

    metrics: dict[str, float]
    hypotheses: list[list[int]] = field(repr=False)
    references: list[list[int]] = field(repr=False)
    error_by_position: list[float]
    count_by_position: list[int]


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
        decoding: greedy or beam.
        batch_size: examples decoded together.

    Raises:
        ValueError: where there are no examples.
    """
    hypotheses = outputs(policy, examples, decoding=decoding, batch_size=batch_size)
    return scored(task, codec, hypotheses, examples)


def outputs(
    policy: Policy, examples: Examples, *, decoding: Decoding = GREEDY, batch_size: int = 256
) -> list[list[int]]:
    """What the policy writes for every example when it runs freely, without eos."""
    written: list[list[int]] = [[] for _ in range(len(examples))]
    for numbers in batches_by_length(examples, batch_size):
        batch = on_device(examples.batch(numbers), policy)
        rows = decode(policy, batch.source, decoding).lists(policy.vocabulary.eos)
        for number, row in zip(numbers, rows, strict=True):
            written[number] = row
    return written


def decode(policy: Policy, source: Source, decoding: Decoding = GREEDY) -> Decoded:
    """What the policy writes for a batch of sources when it runs freely."""
    if decoding.beam == 1:
        return greedy(policy, source)
    return beam_search(policy, source, size=decoding.beam, length_penalty=decoding.length_penalty)


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


def batches_by_length(examples: Examples, batch_size: int) -> list[list[int]]:
    """The numbers of all examples in batches of similar length: fewer steps to decode them all."""
    lengths = [len(reference) for reference in examples.references]
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def on_device(batch: Batch, policy: Policy) -> Batch:
    """The batch where the policy is."""
    device = getattr(policy, "device", batch.ids.device)
    return Batch.of({name: value.to(device) for name, value in batch.tensors().items()})
