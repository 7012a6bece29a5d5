"""From rows to batches, for loops of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from freerun.batch import Batch
from freerun.tasks.tokenized.codec import TextCodec
from freerun.tasks.tokenized.columns import Row
from freerun.tasks.tokenized.examples import TextExamples


@dataclass(frozen=True)
class TextCollator:
    """Makes a batch of rows, as the `collate_fn` of a `torch.utils.data.DataLoader`.

    Rows have the columns that `TextExamples.from_rows` knows. What names an example (`Batch.ids`)
    is a hash of its tokens, so that it meets the same coins and samples in whatever batch it comes;
    equal examples meet equal ones.

    Args:
        codec: what is read and written.
    """

    codec: TextCodec

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """The tensors of a `Batch`, of which `Batch.of` makes one.

        Raises:
            DataError: naming the row, counted from 0 in these, and what would be right.
        """
        examples = TextExamples.from_rows(rows, self.codec, "the batch")
        batch = examples.batch(range(len(examples)))
        lengths = zip(batch.source.lengths.tolist(), batch.lengths.tolist(), strict=True)
        ids = [
            _named(batch.source.values[i, :read], batch.target[i, :written])
            for i, (read, written) in enumerate(lengths)
        ]
        named = Batch(torch.tensor(ids), batch.source, batch.target, batch.mask)
        return named.tensors()


def _named(prompt: Tensor, completion: Tensor) -> int:
    """63 bits that name an example."""
    tokens = [len(prompt), *prompt.tolist(), *completion.tolist()]
    digest = blake2b(torch.tensor(tokens).numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
