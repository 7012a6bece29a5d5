"""A task that takes milliseconds: read short strings backwards, or letter by letter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from freerun.batch import Batch, Source
from freerun.data import Codec, DataError, Row, Splits
from freerun.randomness import below
from freerun.tasks import Task
from freerun.vocabulary import Vocabulary

FILE = "codec.json"


@dataclass(frozen=True)
class Strings:
    """Strings to be read backwards: tokens 0 … letters-1, then eos where targets end in one."""

    sources: tuple[tuple[int, ...], ...]
    eos: int | None
    epochs: list[int]

    @property
    def references(self) -> Sequence[Sequence[int]]:
        return [list(source[::-1]) for source in self.sources]

    def __len__(self) -> int:
        return len(self.sources)

    def batch(self, numbers, epoch: int = 0) -> Batch:
        numbers = torch.as_tensor(numbers, dtype=torch.int64)
        self.epochs.append(epoch)
        rows = [self.sources[number] for number in numbers.tolist()]
        end = () if self.eos is None else (self.eos,)
        source, source_mask = _pad(rows)
        target, mask = _pad([row[::-1] + end for row in rows])
        return Batch(numbers, Source(source, source_mask), target, mask)


def _pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(1, *map(len, rows))
    mask = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows]), mask


@dataclass(frozen=True)
class TinyCodec(Codec):
    letters: int = 4
    longest: int = 5
    eos: bool = True
    backspace: bool = False

    features = None

    @property
    def target(self) -> Vocabulary:
        found = Vocabulary.build([chr(97 + i) for i in range(self.letters)], eos=self.eos)
        return found.with_backspace() if self.backspace else found

    def with_backspace(self) -> Codec:
        return replace(self, backspace=True) if self.eos else super().with_backspace()

    @property
    def factors(self) -> tuple[int, ...]:
        return (self.letters,)

    @property
    def limit(self) -> int | None:
        return self.longest + 1 if self.eos else None

    def read(self, lines, name):
        raise NotImplementedError

    def encode(self, rows, name="the data"):
        strings = tuple(row["letters"] for row in rows)
        return Strings(strings, self.target.eos, [])

    def encode_sources(self, rows, name="the data"):
        raise NotImplementedError

    def decode(self, tokens, unknown="<unk>"):
        return "".join(self.target.decode(tokens))

    def save_pretrained(self, directory: str) -> None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        Path(directory, FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def from_pretrained(cls, directory: str) -> TinyCodec:
        path = Path(directory, FILE)
        if not path.exists():
            raise DataError(f"{path}: there is no such file")
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Tiny(Task):
    name: ClassVar[str] = "tiny"
    summary: ClassVar[str] = "strings backwards"
    metrics: ClassVar[tuple[str, ...]] = ("character_error", "exact_match")

    letters: int = 4
    longest: int = 5
    train: int = 50
    dev: int = 13
    eos: bool = True

    def strings(self, stream: str, count: int) -> Strings:
        lengths = 1 + below(self.longest, stream, "length", torch.arange(count))
        rows = [
            tuple(below(self.letters, stream, i, torch.arange(length)).tolist())
            for i, length in enumerate(lengths.tolist())
        ]
        return Strings(tuple(rows), self.letters if self.eos else None, [])

    def rows(self) -> Splits[Row]:
        sizes = {"train": self.train, "dev": self.dev, "test": self.dev}
        parts = {name: self.strings(name, size).sources for name, size in sizes.items()}
        return Splits({k: [{"letters": string} for string in v] for k, v in parts.items()})

    def learn_codec(self, rows, **options) -> Codec:
        return TinyCodec(self.letters, self.longest, self.eos)
