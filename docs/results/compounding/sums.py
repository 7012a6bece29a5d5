"""Running sums of digits, read with noise: errors that persist, by construction.

    python docs/results/compounding/sums.py 10 20 40

prints what is known of them without a model: the error of the best predictor of the next digit from
a right prefix, after its own prefix, and of the best one that reads no prefix.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from freerun.data import Row, Splits
from freerun.tasks import Task

BASE = 4


@dataclass(frozen=True)
class Sums(Task):
    """The sums, modulo 4, of the first digits of a row, which are read with noise.

    At every position the model reads a digit that is added, which is replaced by a uniform one with
    probability `noise`, and the sum, which is replaced with probability `blur`. With a right prefix
    the sum follows from the last one and the digit. With a wrong one, that rule repeats the error
    at all later positions, and the blurred sums would correct it.

    Args:
        length: the number of digits.
        noise: the probability that a digit is replaced by a uniform one.
        blur: the probability that a sum is replaced by a uniform digit.
        train_size: the number of training rows; dev and test have 1,000 each.
        seed: the seed of the rows.
    """

    metrics: ClassVar[tuple[str, ...]] = ("hamming_error", "exact_match")
    cost: ClassVar[str] = "hamming"
    fixed_length: ClassVar[bool] = True
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "model": {"hidden_size": 64, "embedding_size": 32, "attention": "aligned"},
        "training": {"batch_size": 64, "learning_rate": 3e-3, "lr_schedule": "linear"},
    }

    length: int = 10
    noise: float = 0.1
    blur: float = 0.5
    train_size: int = 20_000
    seed: int = 0

    def rows(self) -> Splits[Row]:
        """Draw the rows."""
        sizes = {"train": self.train_size, "dev": 1_000, "test": 1_000}
        splits = {}
        for stream, (name, size) in enumerate(sizes.items()):
            digits, blurred, sums = self.draw(size, stream)
            features = np.concatenate([np.eye(BASE)[digits], np.eye(BASE)[blurred]], -1)
            pairs = zip(features.astype(np.float32), sums, strict=True)
            splits[name] = [{"features": x, "target": "".join(map(str, y))} for x, y in pairs]
        return Splits(splits)

    def draw(
        self, count: int, stream: int
    ) -> tuple[Int[np.ndarray, "n t"], Int[np.ndarray, "n t"], Int[np.ndarray, "n t"]]:
        """Return the digits and the sums that are read, and the right sums."""
        draw = np.random.default_rng([self.seed, stream])
        shape = (count, self.length)
        digits = draw.integers(BASE, size=shape)
        sums = digits.cumsum(1) % BASE
        digits, blurred = (
            np.where(draw.random(shape) < rate, draw.integers(BASE, size=shape), true)
            for rate, true in ((self.noise, digits), (self.blur, sums))
        )
        return digits, blurred, sums


def _read(rate: float, values: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n base"]:
    """Return the probability of every true digit, given one that is replaced at a rate."""
    return (1 - rate) * np.eye(BASE)[values] + rate / BASE


def compute_bounds(task: Sums, count: int = 20_000) -> dict[str, float]:
    """Return error rates over `count` rows, of predictors that know the rates of the noise.

    The first reads the right sums before, the second its own, and the third none: it adds up over
    all that they may have been (the forward algorithm).
    """
    digits, blurred, sums = task.draw(count, 3)
    last = {"right prefix": np.zeros(count, dtype=int), "own prefix": np.zeros(count, dtype=int)}
    belief, wrong = np.eye(BASE)[last["own prefix"]], Counter[str]()
    numbers = np.arange(BASE)
    added = (numbers - numbers[:, None]) % BASE  # of the last sum and the next
    for t in range(task.length):
        # The probability of every next sum, after every last one.
        moves = _read(task.noise, digits[:, t])[:, added] * _read(task.blur, blurred[:, t])[:, None]
        found = {name: moves[np.arange(count), sum_].argmax(1) for name, sum_ in last.items()}
        belief = np.einsum("ns,nsk->nk", belief, moves)
        belief /= belief.sum(1, keepdims=True)
        last = {**found, "right prefix": sums[:, t]}
        for name, tokens in {**found, "no prefix": belief.argmax(1)}.items():
            wrong[name] += int((tokens != sums[:, t]).sum())
    return {name: number / sums.size for name, number in wrong.items()}


if __name__ == "__main__":
    for size in map(int, sys.argv[1:]):
        bounds = compute_bounds(Sums(length=size)).items()
        print(size, *(f"{name} {100 * error:.2f} %" for name, error in bounds), sep="  ")
