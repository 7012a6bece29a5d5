"""Base classes of data: examples and splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from freerun.batch import Batch

if TYPE_CHECKING:
    from freerun.data.codec import Codec

T = TypeVar("T")


@runtime_checkable
class Examples(Protocol):
    """One split of a task's data. Examples are numbered from 0, which are the ids of batches."""

    @property
    def references(self) -> Sequence[Sequence[int]]:
        """The target tokens of every example, without eos."""
        ...

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def batch(self, numbers: Sequence[int] | Int[Tensor, "b"], epoch: int = 0) -> Batch:
        """Return a batch of the examples with these numbers, with the noise of `epoch`."""
        ...


@runtime_checkable
class Sources(Examples, Protocol):
    """Examples to predict from: their targets are empty."""

    @property
    def lines(self) -> Sequence[Sequence[str]]:
        """The lines from which every example was read."""
        ...


class Splits(dict[str, list[T]]):
    """The rows of each split: `train`, `dev` and `test`.

    Args:
        parts: the splits.
        notes: notes for the user.
    """

    def __init__(self, parts: Mapping[str, Iterable[T]], notes: Sequence[str] = ()) -> None:
        super().__init__({name: list(part) for name, part in parts.items()})
        self.notes = list(notes)


@dataclass(frozen=True)
class Data:
    """A task's data, read and split.

    Attributes:
        train: examples to train on.
        dev: examples to choose settings and checkpoints by.
        test: examples to report on.
        codec: the codec that encoded the examples.
        notes: notes for the user: sizes, overlaps, replaced characters.
    """

    train: Examples
    dev: Examples
    test: Examples
    codec: Codec
    notes: list[str] = field(default_factory=list)
