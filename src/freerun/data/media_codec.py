"""The codec of images and sounds, and text outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from freerun.costs.rows import length_mask
from freerun.data.codec import (
    WritingCodec,
    build_codec,
    load_saved_tokenizer,
    read_fields,
    write_fields,
)
from freerun.data.examples import TextExamples
from freerun.data.media import Media, Processor
from freerun.data.rows import Row, name_rows
from freerun.data.side_tokenizer import SideTokenizer
from freerun.data.store import Ragged, StoredExamples
from freerun.data.tables import parse_object
from freerun.data.text_codec import UNBOUNDED
from freerun.data.tokens import Tokens
from freerun.errors import DataError

MAX_KEPT_BYTES = 2**30
"""The maximum size of converted sources that a split keeps in memory."""

PATHS = ("file_name", "file", "path")
"""Columns with the path of an image or sound, next to `image` and `audio`."""

S = TypeVar("S")


@dataclasses.dataclass(frozen=True, eq=False)
class MediaSources(Ragged):
    """Images or sounds that are decoded when a batch is gathered, unless they are kept.

    Args:
        read: returns a source, by its number.
        numbers: the numbers of the sources.
    """

    read: Callable[[int], Float[np.ndarray, "..."]] = dataclasses.field(kw_only=True)
    numbers: tuple[int, ...] = dataclasses.field(kw_only=True)

    def take(self, count: int) -> MediaSources:
        """Return the first `count` rows."""
        parts = self.starts[:count], self.lengths[:count]
        return MediaSources(self.values, *parts, read=self.read, numbers=self.numbers[:count])

    def gather(self, rows: Int[Tensor, "b"]) -> tuple[Float[Tensor, "b t *f"], Bool[Tensor, "b t"]]:
        """Return the rows with these numbers, padded with zeros, and a mask that is false there."""
        found = [torch.from_numpy(self.read(self.numbers[row])) for row in rows.tolist()]
        lengths = self.lengths[rows]
        mask = length_mask(int(lengths.max()), lengths)
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True), mask


@dataclasses.dataclass(frozen=True, eq=False)
class MediaCodec(WritingCodec):
    """A codec that reads images or sounds, and writes text.

    Args:
        processor: converts an image or a sound to what the encoder reads.
        prefix: the tokens that the decoder reads before bos in every row.
        unusable: whether a row whose image or sound cannot be used is an error, or is left out.

    Raises:
        ValueError: if a setting is out of range.
    """

    kind = "media"
    shared = True  # sources have no tokens of their own
    features = None
    factors = ()

    processor: Processor = dataclasses.field(kw_only=True)
    prefix: tuple[int, ...] = dataclasses.field(default=(), kw_only=True)
    unusable: Literal["error", "drop"] = dataclasses.field(default="error", kw_only=True)

    @property
    def media(self) -> Media:
        """The column of sources, `image` or `audio`."""
        return self.processor.media

    @classmethod
    def learn(
        cls,
        train: Sequence[Row],
        dev: Sequence[Row],
        *,
        target_tokens: str | Tokens,
        **options: Any,
    ) -> MediaCodec:
        """Learn the tokens of targets from rows, for a model without a tokenizer.

        Args:
            train: the rows to train on.
            dev: rows whose characters and symbols are also known (see `Tokens`).
            target_tokens: how targets are cut into tokens.
            options: other settings of the codec.
        """
        spec = Tokens.parse(target_tokens)
        tokenizer = spec.build(*([str(row["target"]) for row in rows] for rows in (train, dev)),
                               eos=True)  # fmt: skip
        return cls(
            tokenizer,
            limit=UNBOUNDED,
            bos=len(tokenizer),
            pad=len(tokenizer) + 1,
            whitespace=spec.whitespace,
            normalization=spec.normalization,
            **options,
        )

    @classmethod
    def for_model(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        processor: Processor,
        start: int,
        *,
        prefix: str = "",
        unusable: Literal["error", "drop"] = "error",
    ) -> MediaCodec:
        """Return the codec of a pretrained model.

        Its prefix are the special tokens that the tokenizer writes before a text if they begin with
        the start token, as Whisper's language, task and timestamps do; then those of `prefix`.

        Args:
            tokenizer: the tokenizer of the model.
            processor: the processor of the model.
            start: the token that its decoder starts with.
            prefix: special tokens that the decoder reads first, such as the task of Donut.
            unusable: see `MediaCodec`.

        Raises:
            DataError: if the prefix has no tokens of its own.
        """
        head, _ = SideTokenizer(tokenizer, target=True).frame
        read = head if head[:1] == [start] else [start]
        if prefix:
            more = tokenizer(prefix, add_special_tokens=False)["input_ids"]
            if tokenizer.unk_token_id in more:
                raise DataError(f"prefix is {prefix!r}, which the tokenizer does not know")
            read = more if more[:1] == [start] else [*read, *more]
        *first, bos = read
        return cls(
            tokenizer, limit=1, bos=bos, processor=processor, prefix=tuple(first),
            unusable=unusable,
        )  # fmt: skip

    def encode(self, rows: Iterable[Row], name: str = "the data") -> TextExamples:
        """Encode rows with the columns `image` or `audio` (see `Processor.read`) and `target`.

        Args:
            rows: the rows.
            name: where they come from, for messages.

        Raises:
            DataError: if a row cannot be used. The message names it, counted from 0.
        """
        rows = list(rows)
        if not rows:
            raise DataError(f"{name}: there are no rows")
        places = name_rows(rows, name)
        sources, kept, notes = self._read_sources(rows, places)
        rows, places = [rows[i] for i in kept], [places[i] for i in kept]
        texts = [
            _check_target(row.get("target"), where) for row, where in zip(rows, places, strict=True)
        ]
        pad, eos = self.target.pad, cast(int, self.target.eos)
        unseen = pad if pad >= self.target.actions else None
        side = SideTokenizer(self.tokenizer, target=True, unseen=unseen)
        head, tail = side.frame
        first = [*self.prefix, self.target.bos][0]
        head = [] if head[:1] == [first] else head  # which is read, not written
        tail = [token for token in tail if token != eos]
        targets = [[*head, *t, *tail, eos] for t in side.encode(texts, places)]
        for target, where in zip(targets, places, strict=True):
            if self.limit is not None and len(target) > self.limit:
                raise DataError(
                    f"{where}: the target has {len(target) - 1} tokens; the model writes at most "
                    f"{self.limit - 1}"
                )
        return TextExamples(
            sources,
            Ragged.from_rows(targets, pad),
            eos=True,
            texts=texts,
            notes=notes,
            end=eos,
            unseen=side.describe_all_unseen(texts, places, targets),
        )

    def encode_sources(self, rows: Iterable[Row], name: str = "the data") -> StoredExamples:
        """Encode rows with the column `image` or `audio`, to predict from.

        Raises:
            DataError: if a row cannot be used. The message names it.
        """
        rows = list(rows)
        codec = dataclasses.replace(self, unusable="error")  # a row, a line of output
        sources, _, _ = codec._read_sources(rows, name_rows(rows, name), targets=False)
        empty = Ragged.from_rows([[] for _ in rows], self.target.pad)
        return StoredExamples(
            sources, empty, eos=False, lines=[row.get("lines", ()) for row in rows]
        )

    def read(self, lines: Sequence[str], name: str) -> StoredExamples:
        """Read sources: the path of a file in each line, or a JSON object with it.

        Paths are relative to the current folder, or else to that of the file of lines.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        rows = []
        for number, line in enumerate(lines, 1):
            where = f"{name}, line {number}"
            value: Any = line.strip()
            if value.startswith("{"):
                value = find_media(parse_object(value, where), self.media, where)
            rows.append(
                {self.media: locate(value, Path(name).parent), "where": where, "lines": [line]}
            )
        return self.encode_sources(rows, name)

    def name_source(self, value: object, where: str) -> Row:
        """Return a row with a source: all that `Processor.read` accepts, or a row with it.

        Raises:
            DataError: if no column of a row has a source.
        """
        if is_row(value):
            value = find_media(value, self.media, where)
        return {self.media: value, "where": where}

    def save_pretrained(self, directory: str) -> None:
        """Write codec.json and the files of the tokenizer and the processor into `directory`."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(directory)
        self.processor.save_pretrained(directory)
        write_fields(self, directory, tokenizer=..., processor=self.media)

    @classmethod
    def from_pretrained(cls, directory: str) -> MediaCodec:
        """Load the codec in `directory`. No code of a tokenizer or a processor is run.

        Raises:
            DataError: if there is none, it is of another kind, or a file of it is missing or
                damaged.
        """
        path, settings = read_fields(cls, directory, tokenizer=..., processor=str)
        media = settings.pop("processor")
        if media not in ("image", "audio"):
            raise DataError(
                f"{path}: the field 'processor' is {media!r}; it must be image or audio"
            )
        return build_codec(
            cls,
            path,
            tokenizer=load_saved_tokenizer(directory),
            processor=Processor.load(media, directory),
            **settings,
        )

    def _read_sources(
        self, rows: Sequence[Row], places: Sequence[str], *, targets: bool = True
    ) -> tuple[MediaSources, list[int], list[str]]:
        """Read all sources once; return them, the numbers of usable rows, and notes.

        Those that fit into memory are kept; others are read again for every batch.
        """
        kept: dict[int, Float[np.ndarray, "..."]] = {}
        lengths: dict[int, int] = {}
        refused: list[str] = []
        size = 0
        for i, (row, where) in enumerate(zip(rows, places, strict=True)):
            try:
                values = self.processor.read(row.get(self.media), where)
            except DataError as error:
                if self.unusable == "error":
                    hint = "; unusable=drop leaves such rows out" if targets else ""
                    raise DataError(f"{error}{hint}") from None
                refused.append(str(error))
                continue
            lengths[i] = len(values)
            size += values.nbytes
            if size <= MAX_KEPT_BYTES:
                kept[i] = values
        if not lengths:
            raise DataError(f"{refused[0]}; so it is with all rows")

        def read(i: int) -> Float[np.ndarray, "..."]:
            found = kept.get(i)
            return self.processor.read(rows[i][self.media], places[i]) if found is None else found

        starts = torch.zeros(len(lengths), dtype=torch.long)
        sizes = torch.tensor([*lengths.values()])
        found = MediaSources(torch.zeros(1, 1), starts, sizes, read=read, numbers=(*lengths,))
        notes = (
            [f"{len(refused)} of {len(rows)} rows were left out: {refused[0]}"] if refused else []
        )
        return found, [*lengths], notes


def is_row(value: object) -> TypeGuard[Row]:
    """Return whether a value is a row with a source, and not a source in bytes or samples."""
    return isinstance(value, Mapping) and value.keys().isdisjoint(("bytes", "array"))


def find_media(row: Row, media: Media, where: str) -> object:
    """Return the image or sound of a row.

    Raises:
        DataError: if no column has one.
    """
    for column in (media, *PATHS):
        if row.get(column) is not None:
            return row[column]
    there = ", ".join(map(str, row)) or "none"
    raise DataError(
        f"{where}: no column {', '.join((media, *PATHS[:-1]))} or {PATHS[-1]}; it has {there}"
    )


def locate(value: S, folder: Path) -> S | str:
    """Return a path that exists: the value, or the value in a folder; other values unchanged."""
    if isinstance(value, str) and not Path(value).is_file() and (folder / value).is_file():
        return str(folder / value)
    return value


def _check_target(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: the target is {value!r:.40}; it must be text")
    if not value.strip():
        raise DataError(f"{where}: the target is empty")
    return value
