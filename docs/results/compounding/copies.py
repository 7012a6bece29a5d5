"""Copying and reversing letters among digits, which are left out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from freerun.data import Row, Splits
from freerun.tasks import Task

LETTERS, DIGITS = "abcdefgh", "0123"


@dataclass(frozen=True)
class Copies(Task):
    """Letters among digits, to be written without the digits.

    Letters and digits are uniform. As letters repeat, the last letter written does not tell where
    to read on: a model that errs may lose its place.

    Args:
        length: the number of letters.
        test_length: the number of letters in test; by default the same.
        digits: the probability that a digit follows a letter; several may follow.
        reverse: whether the letters are written from the last to the first.
        train_size: the number of training rows; dev and test have 1,000 each.
        seed: the seed of the rows.
    """

    metrics: ClassVar[tuple[str, ...]] = ("character_error", "exact_match")
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "model": {
            "hidden_size": 64,
            "embedding_size": 32,
            "bidirectional": True,
            "attention": "general",
        },
        "training": {"batch_size": 64, "learning_rate": 3e-3, "lr_schedule": "linear"},
    }
    source_tokens: ClassVar[None] = None

    length: int = 10
    test_length: int | None = None
    digits: float = 0.5
    reverse: bool = False
    train_size: int = 20_000
    seed: int = 0

    def rows(self) -> Splits[Row]:
        """Draw different rows for every split."""
        draw, seen = random.Random(self.seed), set[str]()  # noqa: S311
        sizes = {"test": 1_000, "dev": 1_000, "train": self.train_size}
        lengths = {"test": self.test_length or self.length}
        return Splits(
            {
                name: list(islice(self._draw(lengths.get(name, self.length), draw, seen), size))
                for name, size in sizes.items()
            }
        )

    def _draw(self, length: int, draw: random.Random, seen: set[str]) -> Iterator[Row]:
        """Yield rows whose sources are not in `seen`, and add them."""
        while True:
            letters, source = draw.choices(LETTERS, k=length), ""
            for letter in letters:
                source += letter
                while draw.random() < self.digits:
                    source += draw.choice(DIGITS)
            if source not in seen:
                seen.add(source)
                target = "".join(reversed(letters) if self.reverse else letters)
                yield {"source": source, "target": target}
