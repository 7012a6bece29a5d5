"""The examples of a run as one endless stream, epoch after epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from freerun.data import Examples
from freerun.randomness import permutation

Tensors = dict[str, Tensor]


class Order(Sampler[int]):
    """The order of examples: item i of epoch e is e·n + permutation_e(i).

    Batches may cross the end of an epoch, so every batch is full and no example is dropped, even if
    the data set is small. A run is resumed by skipping items.

    Args:
        examples: the number n of examples.
        items: the total number of items.
        seed: the seed of the order.
    """

    def __init__(self, examples: int, items: int, seed: int) -> None:
        self.examples, self.items, self.seed = examples, items, seed

    def __len__(self) -> int:
        """Return the number of items."""
        return self.items

    def __iter__(self) -> Iterator[int]:
        """Yield the items in order."""
        for start in range(0, self.items, self.examples):
            order = permutation(self.examples, self.seed, "order", start // self.examples)
            yield from (order[: self.items - start] + start).tolist()


class Stream(Dataset[Tensors]):
    """A dataset whose items are those of `Order`: item k is example k mod n in epoch k div n."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.examples)

    def __getitem__(self, item: int) -> Tensors:
        """Return a batch of one."""
        return self.__getitems__([item])

    def __getitems__(self, items: Sequence[int]) -> Tensors:
        """Return the batch of these items."""
        count = len(self.examples)
        epochs = sorted({item // count for item in items})
        numbers = [[item % count for item in items if item // count == e] for e in epochs]
        # Items come epoch by epoch, so the joined parts are in the order of the items.
        parts = [
            self.examples.batch(part, epoch).tensors()
            for part, epoch in zip(numbers, epochs, strict=True)
        ]
        return parts[0] if len(parts) == 1 else join(parts)


def join(parts: Sequence[Tensors]) -> Tensors:
    """Concatenate batches, padded with zeros to the width of the widest; masks mark padding."""
    return {name: _stack([part[name] for part in parts]) for name in parts[0]}


def _stack(values: Sequence[Tensor]) -> Tensor:
    if values[0].dim() == 1:
        return torch.cat(list(values))
    width = max(value.shape[1] for value in values)
    rows = sum(len(value) for value in values)
    joined = values[0].new_zeros(rows, width, *values[0].shape[2:])
    start = 0
    for value in values:
        joined[start : start + len(value), : value.shape[1]] = value
        start += len(value)
    return joined
