"""The data of tasks in the tokens of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from freerun.batch import Batch
from freerun.data.base import Codec, Data, DataError, Splits, Task
from freerun.data.store import Ragged, Stored, Tokens
from freerun.data.text.codec import TextCodec
from freerun.data.text.columns import Row, kind_of, labelled, pairs_of
from freerun.data.text.encoder import Encoded


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


ENDLESS = 2**31
"""More tokens than any output has."""


def tokenized(
    task: Task, tokenizer: PreTrainedTokenizerBase, *, start: int | None = None, **settings: Any
) -> Data:
    """The data of a task of text in the tokens of a tokenizer.

    Outputs may be half as long again as the longest target.

    Args:
        task: a task of text.
        tokenizer: the tokenizer.
        start: the token that the decoder of an encoder-decoder starts with; None for causal models.
        settings: settings of `TextCodec`, such as `max_prompt`, in place of the task's.

    Raises:
        DataError: where the task is not text or its data cannot be used, or as `TextCodec` does.
    """
    rows = task.rows()
    settings = {**task.reading(), **settings}
    kind = kind_of(rows["train"][0], f"{task.name} (train)")
    if "separator" in settings and (kind != "source" or start is not None):
        raise DataError(
            "separator stands between the columns source and target for causal models; it has no "
            "effect here"
        )
    column = "prompt" if kind == "input_ids" else kind
    most = settings.get("max_completion") or ENDLESS
    codec = TextCodec(tokenizer, start=start, column=column, limit=most, **settings)
    return _data(task, rows, codec, 0)


def data_of(task: Task, codec: Codec) -> Data:
    """The data of a task as a model reads and writes them that was trained before.

    Args:
        task: the task.
        codec: what the model reads and writes. Where it is no `TextCodec`, the task's own data are
            given, whose codec may differ.

    Raises:
        DataError: where the data cannot be used.
    """
    if not isinstance(codec, TextCodec):
        return task.load()
    endless = codec if codec.max_completion else replace(codec, limit=ENDLESS)
    return _data(task, task.rows(), endless, codec.limit)


def _data(task: Task, rows: Splits[Row], codec: TextCodec, least: int) -> Data:
    """The splits as examples, and a codec whose outputs may be long enough."""
    parts = {
        name: TextExamples.from_rows(part, codec, f"{task.name} ({name})")
        for name, part in rows.items()
    }
    longest = [max(sizes) for sizes in zip(*(p.longest for p in parts.values()), strict=True)]
    limit = max(least, codec.max_completion or 0, longest[1] + longest[1] // 2)
    codec = replace(codec, limit=limit)
    cut = [f"{name}: {note}" for name, part in parts.items() for note in part.notes]
    sizes = f"the longest prompt has {longest[0]} tokens, the longest completion {longest[1]}"
    notes = [*rows.notes, *cut, sizes, *_altered(codec, parts["test"])]
    return Data(parts["train"], parts["dev"], parts["test"], codec, notes)


def _altered(codec: TextCodec, examples: TextExamples) -> list[str]:
    """A note on texts that the tokenizer does not give back, so that no output can equal them.

    Targets without eos were cut off, of which there is a note already.
    """
    rows = zip(examples.references, examples.targets.lengths.tolist(), examples.texts, strict=True)
    whole = ((tokens, text) for tokens, length, text in rows if len(tokens) < length)
    read = ((codec.decode(tokens), text.strip()) for tokens, text in whole)
    wrong = [(found, text) for found, text in read if found != text]
    if not wrong:
        return []
    found, text = wrong[0]
    return [
        f"{len(wrong)} targets of {len(examples)} of test are not what their tokens are read as, "
        f"and so are never right: {text!r:.60} is read as {found!r:.60}"
    ]
