"""Dates in handwritten digits to dates in letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.data import Data, DataError
from freerun.data.extras import extra
from freerun.data.files import blocks, read_lines
from freerun.data.images import pixels, stacked, unlabelled
from freerun.data.saved import SavedCodec
from freerun.data.splits import split
from freerun.data.store import Ragged, Stored
from freerun.randomness import permutation, uniform
from freerun.tasks.scored import CharacterTask
from freerun.vocabulary import Vocabulary

PIXELS = 64
"""Of an image in scikit-learn's data."""

FIRST, LAST = date(1000, 1, 1).toordinal(), date(2999, 12, 31).toordinal()
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
SYMBOLS = "".join(sorted(set("0123456789 ".join(MONTHS))))
"""What dates are written in: digits, the space and the letters of the months."""


@dataclass(frozen=True)
class DigitsCodec(SavedCodec):
    """Images of 64 pixels in, characters and eos out.

    Args:
        longest: the characters of the longest training target.
        symbols: the characters that can be written.
    """

    task = "digits"
    features = PIXELS
    factors = ()
    longest: int
    symbols: str = SYMBOLS

    @cached_property
    def target(self) -> Vocabulary:
        """The symbols and eos."""
        found = Vocabulary.build(self.symbols, eos=True)
        return found.with_backspace() if self.backspace else found

    @property
    def limit(self) -> int:
        """Half as many characters again as the longest target, and eos."""
        return self.longest + self.longest // 2 + 1

    def read(self, lines: Sequence[str], name: str) -> Stored:
        """Dates to read: an image a line, 64 numbers in [0, 1], and a blank line between dates.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        found = blocks(enumerate(lines, 1))
        if not found:
            raise DataError(f"{name}: nothing to read")
        images = [pixels(block.lines, PIXELS, name) for block in found]
        return unlabelled(images, [block.text for block in found])

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The date."""
        return "".join(self.target.decode(tokens))

    def evaluation(self, path: str) -> Stored:
        """Dates from a file: their images as in `read`, then a line with what they say.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        images, texts = [], []
        for block in blocks(read_lines(path)):
            *rows, (number, line) = block.lines
            text, where = line.strip(), f"{path}, line {number}"
            if not rows or len(line.replace(",", " ").split()) == PIXELS:
                raise DataError(
                    f"{where}: the target is empty; a line that says the date follows its images"
                )
            if len(text) >= self.limit:
                raise DataError(
                    f"{where}: {len(text)} characters; the model writes at most {self.limit - 1}"
                )
            for symbol in text:
                if symbol not in self.symbols:
                    raise DataError(
                        f"{where}: the character {symbol!r} is unseen in training, which has "
                        f"{self.symbols!r}"
                    )
            images.append(pixels(rows, PIXELS, path))
            texts.append(text)
        return Stored(stacked(images), self.targets(texts), eos=True)

    def targets(self, texts: Sequence[str]) -> Ragged:
        """Texts as tokens, with eos."""
        end = [len(self.symbols)]
        return Ragged.of([self.target.encode(text) + end for text in texts], self.target.pad)


@dataclass(frozen=True, eq=False)
class HandwrittenDigits:
    """Draws an image for every digit of a date, and noise upon it.

    Args:
        images: the images to choose from, those of each digit together.
        starts: where those of each digit begin.
        counts: how many images each digit has.
        noise: the probability that a pixel is replaced by a uniform grey.
        seed: the seed of the draws.
        stream: what they are for, such as "digits dev".
        redrawn: whether they are drawn anew in every epoch.
    """

    images: Float[Tensor, "n 64"]
    starts: Int[Tensor, "10"]
    counts: Int[Tensor, "10"]
    noise: float
    seed: int
    stream: str
    redrawn: bool

    def __call__(
        self,
        values: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        ids: Int[Tensor, "b"],
        epoch: int,
    ) -> Float[Tensor, "b s 64"]:
        """The images of examples `ids` in `epoch`."""
        cells = torch.arange(values.shape[1])
        names = (self.seed, self.stream, epoch if self.redrawn else 0)
        choices = uniform(*names, ids[:, None], cells, dtype=torch.float64)
        images = self.images[self.starts[values] + (choices * self.counts[values]).long()]
        if not self.noise:
            return images
        dots = torch.arange(PIXELS)
        draws = uniform(*names, "pixels", ids[:, None, None], cells[:, None], dots)
        # Below the rate, a draw divided by the rate is uniform again, and is the grey.
        return torch.where(draws < self.noise, draws / self.noise, images)


@dataclass(frozen=True)
class Digits(CharacterTask):
    """Dates DDMMYYYY in handwritten digits, to be written out, as in "21 november 2026".

    The digits are the 1,797 images of scikit-learn (Alpaydin and Kaynak 1998), 8x8 pixels. The
    splits share neither images nor dates. In training the image of each digit, and the noise, are
    drawn anew every epoch; elsewhere they are fixed by seed.

    Args:
        noise: the probability that a pixel is replaced by a uniform grey, in [0, 1].
        train_size: how many dates to train on.
        dev_size: how many dates dev has.
        test_size: how many dates test has.
        seed: the seed of dates, splits and draws.
    """

    name: ClassVar[str] = "digits"
    summary: ClassVar[str] = (
        "images of handwritten digits to a date in letters; nothing to download"
    )
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "model": {
            "cell": "gru",
            "hidden_size": 96,
            "embedding_size": 32,
            "bidirectional": True,
            "attention": "general",
        },
        "training": {
            "updates": 1_500,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "evaluate_every": 250,
        },
    }

    noise: float = 0.3
    train_size: int = 10_000
    dev_size: int = 500
    test_size: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: naming the setting that is out of range.
        """
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise is {self.noise}; it must lie in 0 … 1")
        for name in ("train_size", "dev_size", "test_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        wanted, there = self.train_size + self.dev_size + self.test_size, LAST - FIRST + 1
        if wanted > there:
            raise ValueError(f"train_size, dev_size and test_size make {wanted}; dates are {there}")

    def load(self) -> Data:
        """Draw the dates, and deal out the images.

        Raises:
            MissingExtraError: where scikit-learn is not installed.
        """
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        days = permutation(LAST - FIRST + 1, self.seed, "digits dates") + FIRST
        dates = [date.fromordinal(day) for day in days[: sum(sizes.values())].tolist()]
        texts = [f"{day.day} {MONTHS[day.month - 1]} {day.year}" for day in dates]
        digits = [[int(digit) for digit in day.strftime("%d%m%Y")] for day in dates]
        codec = DigitsCodec(longest=max(map(len, texts[: self.train_size])))
        parts, notes, end = [], [], 0
        for (name, size), images in zip(sizes.items(), self._images(), strict=True):
            start, end = end, end + size
            draw = HandwrittenDigits(
                images=torch.cat(images),
                starts=torch.tensor([0, *map(len, images)]).cumsum(0)[:-1],
                counts=torch.tensor([len(group) for group in images]),
                noise=self.noise,
                seed=self.seed,
                stream=f"digits {name}",
                redrawn=name == "train",
            )
            sources = Ragged.of(digits[start:end], 0)
            parts.append(Stored(sources, codec.targets(texts[start:end]), eos=True, draw=draw))
            notes.append(f"{name}: {size} dates, {len(draw.images)} images")
        return Data(parts[0], parts[1], parts[2], codec, notes)

    def _images(self) -> list[list[Float[Tensor, "n 64"]]]:
        """For train, dev and test, the images of each digit; equal ones are on one side."""
        source = extra("sklearn.datasets", "digits", "the task digits").load_digits()
        images = torch.from_numpy(source.data / 16).float()
        parts: list[list[Float[Tensor, "n 64"]]] = [[], [], []]
        for digit in range(10):
            own = images[torch.from_numpy(source.target == digit)]
            keys = [image.numpy().tobytes() for image in own]
            tenth = len(keys) // 10
            dev, test, train = split(keys, [tenth, tenth], self.seed, "digits images", digit)
            for part, numbers in zip(parts, (train, dev, test), strict=True):
                part.append(own[numbers])
        return parts
