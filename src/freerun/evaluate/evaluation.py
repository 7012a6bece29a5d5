"""How good it is what a policy writes when it runs freely."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import zip_longest

from freerun.evaluate.backspaces import Backspaces
from freerun.evaluate.decoding import GREEDY, Decoding
from freerun.evaluate.written import write
from freerun.policy import Policy
from freerun.tasks.base import Codec, Examples, Task


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
