"""Images in text files: one image per line, and a blank line between sequences of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from freerun.data.feature_codec import parse_vectors
from freerun.data.files import Line, group_lines
from freerun.data.rows import Row
from freerun.errors import DataError


def read_images(lines: Sequence[Line], width: int, name: str) -> Float[np.ndarray, "images width"]:
    """Read images, one per line: `width` numbers in [0, 1], separated by spaces, tabs or commas.

    Raises:
        DataError: if a line contains anything else. The message names file and line.
    """
    images = parse_vectors(lines, width, name)
    for (number, _), image in zip(lines, images.tolist(), strict=True):
        if not all(0 <= pixel <= 1 for pixel in image):
            raise DataError(f"{name}, line {number}: a pixel lies outside 0 … 1")
    return images


def read_image_rows(lines: Sequence[str], width: int, name: str) -> list[Row]:
    """Read sequences of images as rows with the columns `features` and `lines`.

    Raises:
        DataError: if a line is wrong. The message names file and line, and what is expected.
    """
    found = group_lines(enumerate(lines, 1))
    if not found:
        raise DataError(f"{name}: nothing to read")
    return [
        {"features": read_images(block.lines, width, name), "lines": block.text} for block in found
    ]
