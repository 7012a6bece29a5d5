"""A task that takes milliseconds: read short strings backwards, or letter by letter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from freerun.batch import Batch, Source
from freerun.data import Codec, Data, DataError
from freerun.metrics import character_error, exact_match
from freerun.metrics.sequences import aligned_errors
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
    kind: ClassVar[str] = "tiny"
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
        raise NotImplementedError

    encode_sources = encode

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
    metric: ClassVar[str] = "character_error"

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

    def load(self) -> Data:
        return Data(
            self.strings("train", self.train),
            self.strings("dev", self.dev),
            self.strings("test", self.dev),
            TinyCodec(self.letters, self.longest, self.eos),
        )

    def score(self, codec, hypotheses, examples) -> dict[str, float]:
        references = examples.references
        return {
            "character_error": character_error(hypotheses, references),
            "exact_match": exact_match(hypotheses, references),
        }

    def position_errors(self, hypothesis, reference) -> list[bool]:
        return aligned_errors(hypothesis, reference)

    def majority(self, data: Data) -> dict[str, float]:
        raise NotImplementedError
