"""The two kinds of tasks by what is reported: errors of cells, or of characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from freerun.data import UNMATCHED, Codec, Data, Examples, TextCodec, TextExamples
from freerun.metrics import character_error, exact_match, hamming_error
from freerun.metrics.guesses import constant_guesses, most_common_token
from freerun.metrics.sequences import aligned_errors, cell_errors
from freerun.tasks.base import Task


@dataclass(frozen=True)
class CellTask(Task):
    """A task whose outputs are as long as their sources, without eos."""

    metric: ClassVar[str] = "hamming_error"
    cost: ClassVar[str] = "hamming"

    def score(
        self,
        codec: Codec,
        hypotheses: Sequence[Sequence[int]],
        examples: Examples,
    ) -> dict[str, float]:
        """The share of wrong cells, and of outputs that are right throughout.

        Raises:
            ValueError: where an output is not as long as its reference.
        """
        return {
            "hamming_error": hamming_error(hypotheses, examples.references),
            "exact_match": exact_match(hypotheses, list(examples.references)),
        }

    def position_errors(self, hypothesis: Sequence[int], reference: Sequence[int]) -> list[bool]:
        """For every cell of the reference, whether the output is wrong there.

        Raises:
            ValueError: where the output is not as long as the reference.
        """
        return cell_errors(hypothesis, reference)

    def majority(self, data: Data) -> dict[str, float]:
        """The metrics on the test set of writing the commonest token of training in every cell."""
        guess = most_common_token(data.train.references)
        outputs = [[guess] * len(row) for row in data.test.references]
        return self.score(data.codec, outputs, data.test)


@dataclass(frozen=True)
class CharacterTask(Task):
    """A task whose outputs are text and end in eos."""

    metric: ClassVar[str] = "character_error"
    cost: ClassVar[str] = "edit_distance"

    def score(
        self,
        codec: Codec,
        hypotheses: Sequence[Sequence[int]],
        examples: Examples,
    ) -> dict[str, float]:
        """All edits divided by all reference characters, and the share of right outputs.

        Text is compared as its codec normalizes it.
        """
        written: Sequence[Sequence[int] | str] = hypotheses
        wanted: Sequence[Sequence[int] | str] = examples.references
        if isinstance(codec, TextCodec):
            written = [codec.normalize(codec.decode(row, UNMATCHED)) for row in hypotheses]
            wanted = [codec.normalize(text) for text in cast(TextExamples, examples).texts]
        return {
            "character_error": character_error(written, wanted),
            "exact_match": exact_match(written, wanted),
        }

    def position_errors(self, hypothesis: Sequence[int], reference: Sequence[int]) -> list[bool]:
        """For every character (or token) of the reference, whether the output is wrong there.

        By an alignment with the fewest edits: a character is wrong where it was substituted or left
        out, or where something was inserted before it; the last one also for what comes after it.
        """
        return aligned_errors(hypothesis, reference)

    def majority(self, data: Data) -> dict[str, float]:
        """The metrics on the test set of one guess for every source, the better of two on dev."""
        return constant_majority(self, data)


def constant_majority(task: Task, data: Data) -> dict[str, float]:
    """The metrics on the test set of one guess for every source, the better of two on dev.

    They are the commonest target of training, and the commonest token of training at every
    position, up to the median length.
    """

    def on_dev(guess: list[int]) -> float:
        found = task.score(data.codec, [guess] * len(data.dev), data.dev)[task.metric]
        return found if task.greater_is_better else -found

    guess = max(constant_guesses(list(data.train.references)), key=on_dev)
    return task.score(data.codec, [guess] * len(data.test), data.test)
