"""Batches of rows for a data loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from freerun.batch import Batch
from freerun.data.rows import Row
from freerun.data.text_codec import TextCodec


@dataclass(frozen=True)
class TextCollator:
    """Convert rows to a batch, as the `collate_fn` of a `torch.utils.data.DataLoader`.

    Rows have the columns that `TextCodec.encode` reads. The id of an example (`Batch.ids`) is a
    hash of its tokens, so it gets the same coins and samples in any batch, and equal examples get
    equal ones.

    Args:
        codec: the codec that encodes the rows.
    """

    codec: TextCodec

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return the tensors of a `Batch` (see `Batch.from_tensors`).

        Raises:
            DataError: if a row cannot be encoded. The message names it, counted from 0, and what is
                expected.
        """
        examples = self.codec.encode(rows, "the batch")
        batch = examples.batch(range(len(examples)))
        lengths = zip(batch.source.lengths.tolist(), batch.lengths.tolist(), strict=True)
        ids = [
            _hash_tokens(batch.source.values[i, :read], batch.target[i, :written])
            for i, (read, written) in enumerate(lengths)
        ]
        named = Batch(torch.tensor(ids), batch.source, batch.target, batch.mask)
        return named.tensors()


def _hash_tokens(prompt: Tensor, completion: Tensor) -> int:
    """Hash the tokens of an example to 63 bits."""
    tokens = [len(prompt), *prompt.tolist(), *completion.tolist()]
    digest = blake2b(torch.tensor(tokens).numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
