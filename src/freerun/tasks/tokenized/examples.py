"""Examples of prompts and completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from freerun.tasks.base import DataError
from freerun.tasks.store import Ragged, Stored, Tokens
from freerun.tasks.tokenized.codec import TextCodec
from freerun.tasks.tokenized.columns import Row, kind_of, pairs_of
from freerun.tasks.tokenized.encoder import Encoded
from freerun.tasks.tokenized.labels import labelled


@dataclass(frozen=True, eq=False)
class TextExamples(Stored):
    """Examples that keep the text of their completions, as it was read.

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

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Row],
        codec: TextCodec | PreTrainedTokenizerBase,
        name: str = "the data",
    ) -> TextExamples:
        """Rows as examples: mappings, such as those of a Dataset of the `datasets` library.

        They have the columns `prompt` and `completion` (text, or messages), `messages` (the last
        one, the assistant's, is the completion), `source` and `target` (text), `text` (running
        text, cut into blocks), or `input_ids` and `labels` (tokens, with -100 on what is not to be
        learnt; see `labelled`). Other columns are passed over.

        Args:
            rows: the rows.
            codec: what is read and written; a tokenizer stands for that of a causal model.
            name: where they come from, for messages.

        Raises:
            DataError: naming the row, counted from 0, and what would be right.
        """
        codec = codec if isinstance(codec, TextCodec) else TextCodec(codec)
        encoded = encode_rows(rows, codec, name)
        kept = codec.bounds.within(encoded, codec.encoder.special)
        pad = codec.target.pad
        return cls(
            Ragged.of([row.prompt for row in kept], pad),
            Ragged.of([row.completion for row in kept], pad),
            eos=True,
            texts=[row.text for row in kept],
            notes=codec.bounds.notes(encoded),
            end=codec.tokenizer.eos_token_id,
        )

    @classmethod
    def of_texts(
        cls, pairs: Iterable[tuple[str, str]], codec: TextCodec, name: str = "the data"
    ) -> TextExamples:
        """Sources and targets as examples.

        Raises:
            DataError: naming the pair, counted from 0, and what would be right.
        """
        rows = [{"source": source, "target": target} for source, target in pairs]
        return cls.from_rows(rows, codec, name)

    @property
    def references(self) -> Tokens:
        """The target tokens of every example, without eos."""
        rows = self.targets
        last = rows.values[rows.starts + rows.lengths - 1]
        return Tokens(Ragged(rows.values, rows.starts, rows.lengths - (last == self.end).long()))

    @property
    def longest(self) -> tuple[int, int]:
        """The tokens of the longest prompt and of the longest target, eos included."""
        return int(torch.max(self.sources.lengths)), int(torch.max(self.targets.lengths))


def encode_rows(rows: Iterable[Row], codec: TextCodec, name: str) -> list[Encoded]:
    """The tokens of rows, as long as they are.

    Raises:
        DataError: naming the row, counted from 0, and what would be right.
    """
    rows = list(rows)
    if not rows:
        raise DataError(f"{name}: there are no rows")
    places = [f"{name}, row {number}" for number in range(len(rows))]
    kind = kind_of(rows[0], name)
    if codec.block is not None and kind != "text":
        raise DataError(f"{name}: block has no effect on rows of {kind}; leave it out")
    if kind != "input_ids":
        separator = codec.separator if codec.start is None else ""
        return codec.encoder.encode(pairs_of(rows, places, kind, separator=separator))
    size, pad, causal = codec.target.actions, codec.target.pad, codec.start is None
    pairs = [
        labelled(row, where, pad=pad, size=size, causal=causal)
        for row, where in zip(rows, places, strict=True)
    ]
    return codec.encoder.encode(pairs)
