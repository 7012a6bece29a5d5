"""Dates in handwritten digits to dates in letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.data import Codec, DataError, Sources, Splits
from freerun.data.files import group_lines, read_lines
from freerun.data.images import read_image_rows, read_images
from freerun.data.rows import Row
from freerun.data.splits import split_by_key
from freerun.data.store import Augmentation, StoredExamples
from freerun.data.tokens import Tokens
from freerun.imports import import_extra
from freerun.randomness import permutation, uniform
from freerun.tasks.base import Recipe, Task

DIGIT_PIXELS = 64
"""The width and height of an image in scikit-learn's data."""

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
DATE_SYMBOLS = "".join(sorted(set("0123456789 ".join(MONTHS))))
"""The characters of dates: digits, the space and the letters of the months."""


@dataclass(frozen=True)
class Digits(Task):
    """Dates DDMMYYYY in handwritten digits, to be written out, as in "21 november 2026".

    The digits are the 1,797 images of scikit-learn (Alpaydin and Kaynak 1998), 8x8 pixels. The
    splits share neither images nor dates. In training the image of each digit, and the noise, are
    drawn anew every epoch; elsewhere they are fixed by seed.

    Args:
        noise: the probability that a pixel is replaced by a uniform gray, in [0, 1].
        train_size: the number of dates to train on.
        dev_size: the number of dates in dev.
        test_size: the number of dates in test.
        seed: the seed of dates, splits and noise.
    """

    name: ClassVar[str] = "digits"
    summary: ClassVar[str] = (
        "images of handwritten digits to a date in letters; nothing to download"
    )
    metrics: ClassVar[tuple[str, ...]] = ("character_error", "exact_match")
    cost: ClassVar[str] = "edit_distance"
    recipe: ClassVar[Recipe] = {
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
    target_tokens: ClassVar[Tokens] = Tokens("characters", alphabet=DATE_SYMBOLS)

    noise: float = 0.3
    train_size: int = 10_000
    dev_size: int = 500
    test_size: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if a setting is out of range. The message names it.
        """
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise is {self.noise}; it must lie in 0 … 1")
        self.check_sizes("train_size", "dev_size", "test_size")
        wanted, there = self.train_size + self.dev_size + self.test_size, LAST - FIRST + 1
        if wanted > there:
            raise ValueError(f"train_size, dev_size and test_size make {wanted}; dates are {there}")

    def rows(self) -> Splits[Row]:
        """Draw the dates, and images of their digits; training images are those of the first epoch.

        Raises:
            MissingExtraError: if scikit-learn is not installed.
        """
        parts, notes = {}, []
        for name, dates in _draw_dates(self).items():
            images = self._images(name)
            drawn = images.draw(torch.arange(len(dates)), epoch=0)
            pairs = zip(drawn.numpy(), dates, strict=True)
            parts[name] = [{"features": row, "target": spell_date(day)} for row, day in pairs]
            notes.append(f"{name}: {len(dates)} dates, {len(images.images)} images")
        return Splits(parts, notes)

    def augment(self, codec: Codec, split: str, examples: StoredExamples) -> Augmentation | None:
        """Return the object that draws training images anew in every epoch."""
        return self._images(split) if split == "train" else None

    def read_examples(self, path: str) -> list[Row]:
        """Read dates from a file: one image per line, then a line with the date, then a blank one.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        rows: list[Row] = []
        for block in group_lines(read_lines(path)):
            *images, (number, line) = block.lines
            where = f"{path}, line {number}"
            if not images or len(line.replace(",", " ").split()) == DIGIT_PIXELS:
                raise DataError(
                    f"{where}: the target is empty; a line that says the date follows its images"
                )
            features = read_images(images, DIGIT_PIXELS, path)
            rows.append({"features": features, "target": line.strip(), "where": where})
        return rows

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read dates to predict: one image per line, and a blank line between dates.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return codec.encode_sources(read_image_rows(lines, DIGIT_PIXELS, name), name)

    def _images(self, name: str) -> DigitImages:
        """Return the object that draws the images of a split; equal images are in one split."""
        # Outside of what is cached, so that an extra that is missing is named every time.
        sklearn = import_extra("sklearn.datasets", "digits", "the task digits")
        images, digits = _load_images(sklearn.load_digits)
        groups = []
        for digit in range(10):
            own = images[digits == digit]
            keys = [image.numpy().tobytes() for image in own]
            tenth = len(keys) // 10
            dev, test, train = split_by_key(keys, [tenth, tenth], self.seed, "digits images", digit)
            groups.append(own[{"train": train, "dev": dev, "test": test}[name]])
        days = _draw_dates(self)[name]
        dates = [[int(digit) for digit in day.strftime("%d%m%Y")] for day in days]
        return DigitImages(
            digits=torch.tensor(dates),
            images=torch.cat(groups),
            starts=torch.tensor([0, *map(len, groups)]).cumsum(0)[:-1],
            counts=torch.tensor([len(group) for group in groups]),
            noise=self.noise,
            seed=self.seed,
            stream=f"digits {name}",
        )


@lru_cache(maxsize=1)
def _draw_dates(task: Digits) -> dict[str, list[date]]:
    """Draw the dates of every split."""
    sizes = {"train": task.train_size, "dev": task.dev_size, "test": task.test_size}
    drawn = permutation(LAST - FIRST + 1, task.seed, "digits dates") + FIRST
    days = iter(drawn[: sum(sizes.values())].tolist())
    return {
        name: [date.fromordinal(next(days)) for _ in range(size)] for name, size in sizes.items()
    }


@lru_cache(maxsize=1)
def _load_images(load: Callable[[], Any]) -> tuple[Float[Tensor, "n 64"], Int[Tensor, "n"]]:
    """Return the images that scikit-learn loads, in [0, 1], and their digits."""
    source = load()
    return torch.from_numpy(source.data / 16).float(), torch.from_numpy(source.target)


def spell_date(day: date) -> str:
    """Return a date as text, such as 21 november 2026."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


@dataclass(frozen=True, eq=False)
class DigitImages:
    """Draws a noisy image for every digit of a date, anew in every epoch.

    Args:
        digits: the digits of every date.
        images: the images to choose from, those of each digit together.
        starts: the index of the first image of each digit.
        counts: the number of images of each digit.
        noise: the probability that a pixel is replaced by a uniform gray.
        seed: the seed of the draws.
        stream: the stream of the draws, such as "digits dev".
    """

    digits: Int[Tensor, "dates 8"]
    images: Float[Tensor, "n 64"]
    starts: Int[Tensor, "10"]
    counts: Int[Tensor, "10"]
    noise: float
    seed: int
    stream: str

    def draw(self, ids: Int[Tensor, "b"], epoch: int) -> Float[Tensor, "b 8 64"]:
        """Return the images of the dates `ids` in `epoch`."""
        digits = self.digits[ids]
        cells = torch.arange(digits.shape[1])
        names = (self.seed, self.stream, epoch)
        choices = uniform(*names, ids[:, None], cells, dtype=torch.float64)
        images = self.images[self.starts[digits] + (choices * self.counts[digits]).long()]
        if not self.noise:
            return images
        dots = torch.arange(DIGIT_PIXELS)
        draws = uniform(*names, "pixels", ids[:, None, None], cells[:, None], dots)
        # If a draw is below the rate, their quotient is uniform, and is the gray.
        return torch.where(draws < self.noise, draws / self.noise, images)

    def __call__(
        self,
        values: Float[Tensor, "b 8 64"],
        mask: Bool[Tensor, "b 8"],
        ids: Int[Tensor, "b"],
        epoch: int,
    ) -> Float[Tensor, "b 8 64"]:
        """Return the sources of examples `ids` in `epoch` (see `Augmentation`)."""
        return self.draw(ids, epoch)
