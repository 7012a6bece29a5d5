"""Examples of text, with the texts of their completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from freerun.data.store import Ragged, StoredExamples, TokenSequences


@dataclass(frozen=True, eq=False)
class TextExamples(StoredExamples):
    """Examples with the original text of their completions.

    Targets end in eos, except truncated ones, all blocks of a running text but the last, and rows
    of tokens.

    Args:
        texts: the text of every completion, with which metrics compare outputs.
        notes: how many rows were truncated or left out.
        end: the token that ends a target, eos.
        others: the same examples with their second, third, … reference, and with the first one
            where there are no more; only targets and texts count.
    """

    texts: Sequence[str] = ()
    notes: Sequence[str] = ()
    end: int = -1
    others: Sequence[TextExamples] = ()

    @property
    def references(self) -> TokenSequences:
        """The target tokens of every example, without eos."""
        rows = self.targets
        last = rows.values[rows.starts + rows.lengths - 1]
        return TokenSequences(
            Ragged(rows.values, rows.starts, rows.lengths - (last == self.end).long())
        )

    def take(self, count: int) -> TextExamples:
        """Return the first `count` examples."""
        others = [each.take(count) for each in self.others]
        return replace(super().take(count), texts=self.texts[:count], others=others)

    def select(self, numbers: Sequence[int]) -> TextExamples:
        """Return the examples with these numbers, which are numbered anew."""
        texts = [self.texts[number] for number in numbers]
        others = [each.select(numbers) for each in self.others]
        return replace(super().select(numbers), texts=texts, others=others)

    @property
    def longest(self) -> tuple[int, int]:
        """The numbers of tokens of the longest prompt and of the longest target, eos included."""
        return int(torch.max(self.sources.lengths)), int(torch.max(self.targets.lengths))
