"""What is reported of outputs where no task says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from freerun.tasks import metrics
from freerun.tasks.base import Codec, Data, DataError, Examples, Task


@dataclass(frozen=True)
class Outputs(Task):
    """Outputs against their references, as text: for data that were given without a task."""

    name: ClassVar[str] = "outputs"
    summary: ClassVar[str] = "outputs against references, character by character"
    metric: ClassVar[str] = "exact_match"
    greater_is_better: ClassVar[bool] = True
    cost: ClassVar[str] = "edit_distance"

    def load(self) -> Data:
        """There is none.

        Raises:
            DataError: always.
        """
        raise DataError("data were given without a task; there is none to load")

    def score(
        self,
        codec: Codec,
        hypotheses: Sequence[Sequence[int]],
        examples: Examples,
    ) -> dict[str, float]:
        """The share of outputs that are right, and all edits divided by all characters."""
        written = [_characters(codec.text(row)) for row in hypotheses]
        wanted = [_characters(codec.text(row)) for row in examples.references]
        return {
            "exact_match": metrics.exact_match(written, wanted),
            "character_error": metrics.character_error(written, wanted),
        }

    def position_errors(self, hypothesis: Sequence[int], reference: Sequence[int]) -> list[bool]:
        """For every token of the reference, whether the output is wrong there, by an alignment."""
        return metrics.aligned_errors(hypothesis, reference)

    def majority(self, data: Data) -> dict[str, float]:
        """The better of two constant guesses (see `constant_guesses`)."""
        guesses = metrics.constant_guesses(data.train.references)
        count = len(data.test.references)
        figures = [self.score(data.codec, [guess] * count, data.test) for guess in guesses]
        return max(figures, key=lambda found: (found["exact_match"], -found["character_error"]))


def _characters(text: str) -> list[int]:
    return [ord(character) for character in text]
