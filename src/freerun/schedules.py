"""Schedules: quantities that change during training, as functions of the update number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from freerun.arguments import check_number


@runtime_checkable
class Schedule(Protocol):
    """A value for every update, counted from 0."""

    def __call__(self, step: int) -> float:
        """Return the value at update `step`."""
        ...


@dataclass(frozen=True)
class Constant:
    """The constant `value`.

    Raises:
        ValueError: if it is not finite.
    """

    value: float

    def __post_init__(self) -> None:
        """Check the range."""
        check_number("value", self.value)

    def __call__(self, step: int) -> float:
        """Return `value`."""
        check_number("step", step, 0)
        return self.value


@dataclass(frozen=True)
class Linear:
    """max(floor, k - c·step) (Bengio et al. 2015, arXiv 1506.03099, section 2.4).

    Raises:
        ValueError: if a number is not finite.
    """

    k: float
    c: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("k", "c", "floor"):
            check_number(name, getattr(self, name))

    def __call__(self, step: int) -> float:
        """Return the value at update `step`."""
        check_number("step", step, 0)
        return max(self.floor, self.k - self.c * step)


@dataclass(frozen=True)
class Exponential:
    """max(floor, k^step) for k in [0, 1] (Bengio et al. 2015, section 2.4).

    Raises:
        ValueError: if k is out of range, or `floor` is not finite.
    """

    k: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_number("k", self.k, 0, 1)
        check_number("floor", self.floor)

    def __call__(self, step: int) -> float:
        """Return the value at update `step`."""
        check_number("step", step, 0)
        return max(self.floor, self.k**step)


@dataclass(frozen=True)
class InverseSigmoid:
    """max(floor, k / (k + exp(step / k))) for k ≥ 1 (Bengio et al. 2015, section 2.4).

    Raises:
        ValueError: if k is out of range, or `floor` is not finite.
    """

    k: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_number("k", self.k, 1)
        check_number("floor", self.floor)

    def __call__(self, step: int) -> float:
        """Return the value at update `step`, as sigmoid(log k - step/k), which cannot overflow."""
        check_number("step", step, 0)
        x = math.log(self.k) - step / self.k
        value = 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
        return max(self.floor, value)


@dataclass(frozen=True)
class Geometric:
    """Geometric interpolation from `start` to `end` in `steps` updates; then `end`.

    Raises:
        ValueError: if an end is not finite and above 0, or `steps` is negative.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_number("start", self.start, 0, above=True)
        check_number("end", self.end, 0, above=True)
        check_number("steps", self.steps, 0)

    def __call__(self, step: int) -> float:
        """Return the value at update `step`."""
        check_number("step", step, 0)
        share = min(step / self.steps, 1.0) if self.steps else 1.0
        return self.start * (self.end / self.start) ** share


def inverse_sigmoid_rate(half: float) -> float:
    """Compute the k ≥ 1 for which `InverseSigmoid(k)` is ½ at update `half`: k·log k = half.

    Raises:
        ValueError: if `half` is not finite and at least 0.
    """
    check_number("half", half, 0)
    low, high = 1.0, max(half, 2.0) + 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * math.log(middle) < half else (low, middle)
    return high
