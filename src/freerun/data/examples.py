"""Examples of text, and batches of rows for a data loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from freerun.batch import Batch
from freerun.data.rows import Row
from freerun.data.store import Ragged, StoredExamples, TokenSequences

if TYPE_CHECKING:
    from freerun.data.text_codec import TextCodec


@dataclass(frozen=True, eq=False)
class TextExamples(StoredExamples):
    """Examples that keep the original text of their completions.

    Targets end in eos, but for those that were cut off, all but the last block of a running text,
    and rows that were tokens already.

    Args:
        texts: the text of every completion, which metrics compare outputs with.
        notes: how many rows were cut or left out.
        end: the token that ends a target, eos.
    """

    texts: Sequence[str] = ()
    notes: Sequence[str] = ()
    end: int = -1

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
        return replace(super().take(count), texts=self.texts[:count])

    @property
    def longest(self) -> tuple[int, int]:
        """The tokens of the longest prompt and of the longest target, eos included."""
        return int(torch.max(self.sources.lengths)), int(torch.max(self.targets.lengths))


@dataclass(frozen=True)
class TextCollator:
    """Makes a batch of rows, as the `collate_fn` of a `torch.utils.data.DataLoader`.

    Rows have the columns that `TextCodec.encode` reads. What names an example (`Batch.ids`)
    is a hash of its tokens, so that it meets the same coins and samples in whatever batch it comes;
    equal examples meet equal ones.

    Args:
        codec: what is read and written.
    """

    codec: TextCodec

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return the tensors of a `Batch` (see `Batch.of`).

        Raises:
            DataError: naming the row, counted from 0 in these, and what would be right.
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
