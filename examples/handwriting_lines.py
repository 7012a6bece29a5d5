r"""Write lines of handwritten digits as images, with their text, to read them by image_to_text.

    python examples/handwriting_lines.py data/lines
    freerun train image_to_text --data data/lines --task.height 12 --task.width 72 \
        --training.updates 3000 --training.warmup 300 --model.hidden_size 64 --model.layers 2 \
        --model.patch_size 4 --training.learning_rate 1e-3 --output runs/lines

A line has two to six of the 1,797 digits of scikit-learn (Alpaydin and Kaynak 1998), 8x8 pixels
each, at irregular distances and heights, with noise. No image of a digit is in two splits.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HEIGHT, WIDTH, SIDE = 12, 72, 8


def draw_line(digits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a line of digits in black on white, [height, width]."""
    canvas = np.zeros((HEIGHT, WIDTH))
    left = generator.integers(0, 4)
    for digit in digits:
        top = generator.integers(0, HEIGHT - SIDE + 1)
        place = canvas[top : top + SIDE, left : left + SIDE]
        np.maximum(place, digit / 16, out=place)
        left += SIDE + generator.integers(0, 4)
    canvas += generator.normal(0, 0.1, canvas.shape)
    return (255 * (1 - canvas.clip(0, 1))).astype(np.uint8)


def main(given: Sequence[str] | None = None) -> None:
    """Write a folder for each split, with images and metadata.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--train", type=int, default=8_000, help="the number of lines in train")
    parser.add_argument("--test", type=int, default=500, help="and in each of dev and test")
    options = parser.parse_args(given)

    data, generator = load_digits(), np.random.default_rng(0)
    numbers = np.split(generator.permutation(len(data.images)), [1300, 1550])
    sizes = {"train": options.train, "dev": options.test, "test": options.test}
    for own, (split, size) in zip(numbers, sizes.items(), strict=True):
        folder = Path(options.folder, split)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [("file_name", "text")]
        for i in range(size):
            chosen = generator.choice(own, generator.integers(2, 7))
            name = f"{i:05}.png"
            Image.fromarray(draw_line(data.images[chosen], generator)).save(folder / name)
            rows.append((name, "".join(map(str, data.target[chosen]))))
        with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
