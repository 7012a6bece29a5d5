"""Rows of pixels as text: one image a line, a blank line between sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from freerun.data.base import DataError
from freerun.data.files import Line
from freerun.data.store import Ragged, Stored


def pixels(lines: Sequence[Line], width: int, name: str) -> Float[np.ndarray, "images width"]:
    """Images, one a line: `width` numbers in [0, 1], separated by spaces, tabs or commas.

    Raises:
        DataError: naming the file and the line, where it holds anything else.
    """
    return np.stack([_pixels(line, width, f"{name}, line {number}") for number, line in lines])


def _pixels(line: str, width: int, where: str) -> Float[np.ndarray, "width"]:
    cells = line.replace(",", " ").split()
    if len(cells) != width:
        raise DataError(f"{where}: {len(cells)} numbers; an image has {width}")
    try:
        image = np.array(cells, dtype=np.float32)
    except ValueError:
        raise DataError(f"{where}: not all of it is numbers") from None
    if not ((image >= 0) & (image <= 1)).all():
        raise DataError(f"{where}: a pixel lies outside 0 … 1")
    return image


def unlabelled(
    images: Sequence[Float[np.ndarray, "_ width"]], lines: Sequence[Sequence[str]]
) -> Stored:
    """Sequences of images to predict from, with the lines that each was read from."""
    empty = Ragged.of([[] for _ in images], 0)
    return Stored(stacked(images), empty, eos=False, lines=lines)


def stacked(images: Sequence[Float[np.ndarray, "_ width"]]) -> Ragged:
    """Sequences of images, one position an image, padded with blank ones."""
    blank = np.zeros((1, images[0].shape[1]), dtype=np.float32)
    values = torch.from_numpy(np.concatenate([*images, blank]))
    return Ragged.stack(values, map(len, images))
