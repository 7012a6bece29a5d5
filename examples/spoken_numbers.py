r"""Let espeak-ng say numbers, to recognize their words by speech_to_text.

    apt install espeak-ng
    python examples/spoken_numbers.py data/numbers
    freerun train speech_to_text --data data/numbers --task.seconds 4 --task.mel_bins 40 \
        --task.target_tokens words --training.updates 800 --training.warmup 80 \
        --model.hidden_size 64 --model.layers 2 --training.learning_rate 1e-3 --output runs/numbers

The numbers have at most four digits, and one to six words; each is said by one of several voices,
at its own speed and pitch. No number is in two splits.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

VOICES = [f"{accent}{kind}" for accent in ("en-us", "en-gb") for kind in ("", "+f2", "+f4", "+m3")]
NUMBERS = 10_000
SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def spell_out(number: int) -> str:
    """Return a number below 10,000 in words, such as four thousand five hundred twenty one."""
    words, small = [], SMALL.split()
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            words += [small[number // size], name]
            number %= size
    if number >= 20:
        words.append(TENS.split()[number // 10 - 2])
        number %= 10
    if number or not words:
        words.append(small[number])
    return " ".join(words)


def main(given: Sequence[str] | None = None) -> None:
    """Write a folder for each split, with sounds and metadata.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--train", type=int, default=3_000, help="the number of sounds in train")
    parser.add_argument("--test", type=int, default=300, help="and in each of dev and test")
    options = parser.parse_args(given)
    if options.train + 2 * options.test > NUMBERS:
        parser.error(f"there are {NUMBERS:,} numbers, of which each is in one split only")

    draw = random.Random(0)  # noqa: S311
    numbers = iter(draw.sample(range(NUMBERS), NUMBERS))
    sizes = {"train": options.train, "dev": options.test, "test": options.test}
    for split, size in sizes.items():
        folder = Path(options.folder, split)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [("file_name", "text")]
        for i in range(size):
            words, name = spell_out(next(numbers)), f"{i:05}.wav"
            voice, speed, pitch = draw.choice(VOICES), draw.randint(150, 220), draw.randint(30, 70)
            options_of_voice = ["-v", voice, "-s", str(speed), "-p", str(pitch)]
            command = ["espeak-ng", *options_of_voice, "-w", str(folder / name), words]
            subprocess.run(command, check=True)  # noqa: S603
            rows.append((name, words))
        with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
