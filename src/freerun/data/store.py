"""Sentences in one flat tensor, from which batches are gathered without a loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from typing import Protocol, TypeVar, overload, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, Source

SourceValues = Int[Tensor, "..."] | Float[Tensor, "..."]
S = TypeVar("S", bound="StoredExamples")


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths in one tensor: row i is values[starts[i] : starts[i] + lengths[i]].

    Args:
        values: the values of all positions, numbers or vectors; the last one is the padding.
        starts: the start of every row.
        lengths: the number of positions of every row.
    """

    values: Int[Tensor, "n"] | Int[Tensor, "n f"] | Float[Tensor, "n f"]
    starts: Int[Tensor, "rows"]
    lengths: Int[Tensor, "rows"]

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]], pad: int) -> Ragged:
        """Concatenate rows of tokens."""
        return cls.from_values(list(chain(*rows, [pad])), map(len, rows))

    @classmethod
    def from_values(cls, values: Sequence[object] | Tensor, lengths: Iterable[int]) -> Ragged:
        """Use `values` as consecutive rows of these lengths; its last value is the padding."""
        ends = [0, *accumulate(lengths)]
        starts = torch.tensor(ends)
        return cls(torch.as_tensor(values), starts[:-1], starts.diff())

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts)

    def drop_last(self, by: int) -> Ragged:
        """Return every row without its last `by` values."""
        return Ragged(self.values, self.starts, self.lengths - by)

    def take(self, count: int) -> Ragged:
        """Return the first `count` rows."""
        starts, lengths = self.starts[:count], self.lengths[:count]
        end = int((starts + lengths).max()) if len(starts) else 0
        return Ragged(torch.cat([self.values[:end], self.values[-1:]]), starts, lengths)

    def select(self, numbers: Sequence[int]) -> Ragged:
        """Return the rows with these numbers."""
        rows = torch.as_tensor(numbers, dtype=torch.int64)
        return Ragged(self.values, self.starts[rows], self.lengths[rows])

    def gather(self, rows: Int[Tensor, "b"]) -> tuple[SourceValues, Bool[Tensor, "b t"]]:
        """Return the rows with these numbers, padded, and a mask that is false on padding."""
        lengths = self.lengths[rows]
        positions = torch.arange(int(lengths.max()))
        mask = positions < lengths[:, None]
        index = torch.where(mask, self.starts[rows][:, None] + positions, len(self.values) - 1)
        values = self.values.index_select(0, index.flatten())
        return values.view(*index.shape, *self.values.shape[1:]), mask


@dataclass(frozen=True, eq=False)
class TokenSequences(Sequence[list[int]]):
    """Rows of tokens as a sequence of lists.

    Args:
        rows: the rows.
    """

    rows: Ragged

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    @overload
    def __getitem__(self, number: int) -> list[int]: ...
    @overload
    def __getitem__(self, number: slice) -> list[list[int]]: ...
    def __getitem__(self, number: int | slice) -> list[int] | list[list[int]]:
        """Return the tokens of a row."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        start, length = int(self.rows.starts[number]), int(self.rows.lengths[number])
        return self.rows.values[start : start + length].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over rows, which is much faster than by index."""
        values = self.rows.values.tolist()
        starts, lengths = self.rows.starts.tolist(), self.rows.lengths.tolist()
        for start, length in zip(starts, lengths, strict=True):
            yield values[start : start + length]


@runtime_checkable
class Augmentation(Protocol):
    """Changes the sources of a batch in every epoch, by noise or a choice of images.

    It depends only on its arguments, and does not change padding.
    """

    def __call__(
        self, values: SourceValues, mask: Bool[Tensor, "b s"], ids: Int[Tensor, "b"], epoch: int
    ) -> SourceValues:
        """Return the sources of examples `ids` in `epoch`."""
        ...


@dataclass(frozen=True, eq=False)
class StoredExamples:
    """Examples in memory.

    Args:
        sources: the values at the positions of sources.
        targets: the tokens of the targets, eos included if there is one.
        eos: whether targets end in eos.
        augmentation: what changes the sources of a batch; None for no change.
        lines: the lines from which every example was read, if it was read to predict from.
        unseen: messages on targets with symbols that cannot be written, so that no output equals
            them.
    """

    sources: Ragged
    targets: Ragged
    eos: bool
    augmentation: Augmentation | None = None
    lines: Sequence[Sequence[str]] = field(default=())
    unseen: Sequence[str] = ()

    @property
    def references(self) -> TokenSequences:
        """The target tokens of every example, without eos."""
        return TokenSequences(self.targets.drop_last(1) if self.eos else self.targets)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.sources)

    def take(self: S, count: int) -> S:
        """Return the first `count` examples."""
        return replace(self, sources=self.sources.take(count), targets=self.targets.take(count))

    def select(self: S, numbers: Sequence[int]) -> S:
        """Return the examples with these numbers, which are numbered anew."""
        sources, targets = self.sources.select(numbers), self.targets.select(numbers)
        return replace(self, sources=sources, targets=targets)

    def batch(self, numbers: Sequence[int] | Int[Tensor, "b"], epoch: int = 0) -> Batch:
        """Return a batch of the examples with these numbers, with the noise of `epoch`."""
        ids = torch.as_tensor(numbers, dtype=torch.int64)
        values, mask = self.sources.gather(ids)
        if self.augmentation is not None:
            values = self.augmentation(values, mask, ids, epoch)
        target, target_mask = self.targets.gather(ids)
        return Batch(ids, Source(values, mask), target, target_mask)
