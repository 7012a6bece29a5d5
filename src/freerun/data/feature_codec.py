"""The codec of real-valued sources, such as images and sounds, and text outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from freerun.data.codec import WritingCodec
from freerun.data.examples import TextExamples
from freerun.data.files import Line, group_lines
from freerun.data.rows import Row, name_rows
from freerun.data.side_tokenizer import SideTokenizer
from freerun.data.store import Ragged, StoredExamples
from freerun.data.text_codec import UNBOUNDED
from freerun.data.tokens import Tokens
from freerun.errors import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureCodec(WritingCodec):
    """A codec that reads a vector of numbers at each position of the source, and writes text.

    Args:
        width: the number of numbers at a position.

    Raises:
        ValueError: if a setting is out of range.
    """

    kind = "features"
    factors = ()

    width: int = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.width < 1:
            raise ValueError(f"width is {self.width}; it must be at least 1")

    @classmethod
    def learn(
        cls,
        train: Sequence[Row],
        dev: Sequence[Row],
        *,
        target_tokens: str | Tokens,
        fixed_length: bool = False,
        **options: Any,
    ) -> FeatureCodec:
        """Learn a codec from rows with the columns `features` and `target`.

        Args:
            train: the rows to train on.
            dev: rows whose characters and symbols are also known (see `Tokens`).
            target_tokens: how targets are cut into tokens.
            fixed_length: whether outputs are as long as their sources, without eos.
            options: other settings of the codec.
        """
        spec = Tokens.parse(target_tokens)
        texts = ([_text(row["target"]) for row in rows] for rows in (train, dev))
        tokenizer = spec.build(*texts, eos=not fixed_length)
        return cls(
            tokenizer,
            limit=None if fixed_length else UNBOUNDED,
            bos=len(tokenizer),
            pad=len(tokenizer) + 1,
            whitespace=spec.whitespace,
            normalization=spec.normalization,
            width=np.shape(train[0]["features"])[-1],
            **options,
        )

    @property
    def features(self) -> int:
        """The width of the inputs."""
        return self.width

    def encode(self, rows: Iterable[Row], name: str = "the data") -> TextExamples:
        """Encode rows with the columns `features` ([positions, width]) and `target` (text).

        A target may also be a list of symbols.

        Args:
            rows: the rows.
            name: where they come from, for messages.

        Raises:
            DataError: if a row cannot be encoded. The message names it, counted from 0.
        """
        rows = list(rows)
        if not rows:
            raise DataError(f"{name}: there are no rows")
        places = name_rows(rows, name)
        sources = self._sources(rows, places)
        texts = [_text(row.get("target")) for row in rows]
        pad = self.target.pad
        unseen = pad if pad >= self.target.actions else None
        side = SideTokenizer(self.tokenizer, target=True, unseen=unseen)
        targets = side.encode(texts, places)
        for source, target, where in zip(sources, targets, places, strict=True):
            if not target:
                raise DataError(f"{where}: the target has no tokens to learn")
            if self.limit is None and len(source) != len(target):
                raise DataError(
                    f"{where}: the source has {len(source)} positions, and the target "
                    f"{len(target)} tokens; the outputs of this task are as long as their sources"
                )
            if self.limit is not None and len(target) >= self.limit:
                raise DataError(
                    f"{where}: the target has {len(target)} tokens; the model writes at most "
                    f"{self.limit - 1}"
                )
        eos = self.target.eos
        end = [] if eos is None else [eos]
        return TextExamples(
            stack_sources(sources),
            Ragged.from_rows([[*target, *end] for target in targets], self.target.pad),
            eos=eos is not None,
            texts=texts,
            end=-1 if eos is None else eos,
            unseen=side.describe_all_unseen(texts, places, targets),
        )

    def encode_sources(self, rows: Iterable[Row], name: str = "the data") -> StoredExamples:
        """Encode rows with the column `features`, to predict from.

        Raises:
            DataError: if a row cannot be encoded. The message names it.
        """
        rows = list(rows)
        sources = self._sources(rows, name_rows(rows, name))
        empty = Ragged.from_rows([[] for _ in rows], self.target.pad)
        return StoredExamples(
            stack_sources(sources), empty, eos=False, lines=[row.get("lines", ()) for row in rows]
        )

    def read(self, lines: Sequence[str], name: str) -> StoredExamples:
        """Read sources: one line with numbers for each position, and a blank line between sources.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        found = group_lines(enumerate(lines, 1))
        if not found:
            raise DataError(f"{name}: nothing to read")
        return self.encode_sources(
            [
                {"features": parse_vectors(block.lines, self.width, name), "lines": block.text}
                for block in found
            ],
            name,
        )

    def _sources(
        self, rows: Sequence[Row], places: Sequence[str]
    ) -> list[Float[np.ndarray, "_ width"]]:
        """Return the features of rows as arrays."""
        found = []
        for row, where in zip(rows, places, strict=True):
            try:
                values = np.asarray(row.get("features"), dtype=np.float32)
            except (ValueError, TypeError):
                raise DataError(f"{where}: features is not an array of numbers") from None
            if values.ndim != 2 or values.shape[1] != self.width or not len(values):
                raise DataError(
                    f"{where}: features has the shape {list(values.shape)}; it must be "
                    f"[positions, {self.width}], with at least one position"
                )
            if not np.isfinite(values).all():
                raise DataError(f"{where}: features has a number that is not finite")
            found.append(values)
        return found


def _text(target: str | Sequence[str] | None) -> str:
    """Return a target as text, with a space between symbols."""
    if isinstance(target, str) or target is None:
        return target or ""
    return " ".join(target)


def parse_vectors(lines: Sequence[Line], width: int, name: str) -> Float[np.ndarray, "_ width"]:
    """Parse the numbers of positions, one line each, separated by spaces, tabs or commas.

    Raises:
        DataError: if a line contains anything else. The message names file and line.
    """
    return np.stack([_numbers(line, width, f"{name}, line {number}") for number, line in lines])


def _numbers(line: str, width: int, where: str) -> Float[np.ndarray, "width"]:
    cells = line.replace(",", " ").split()
    if len(cells) != width:
        raise DataError(f"{where}: {len(cells)} numbers; a position has {width}")
    try:
        return np.array(cells, dtype=np.float32)
    except ValueError:
        raise DataError(f"{where}: not all of it is numbers") from None


def stack_sources(sources: Sequence[Float[np.ndarray, "_ width"]]) -> Ragged:
    """Concatenate sources of real numbers, with zeros as padding."""
    blank = np.zeros((1, sources[0].shape[1]), dtype=np.float32)
    return Ragged.from_values(
        torch.from_numpy(np.concatenate([*sources, blank])), map(len, sources)
    )
