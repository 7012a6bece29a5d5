"""Convert data sets to tables of sources and targets, for `freerun train pairs`.

    python examples/prepare_pairs.py histnorm german-ridges.train.txt.gz train.tsv
    python examples/prepare_pairs.py scan tasks_train_length.txt.gz train.tsv
    python examples/prepare_pairs.py ocr 2701-0_moby_dick.txt.gz ocr.tsv --noise 0.1

docs/recipes.md has the commands of training, and what they reach.
"""

from __future__ import annotations

import argparse
import random
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from freerun.data.files import read_lines
from freerun.metrics import METRICS

Pair = tuple[str, str]

CONFUSED = {
    "a": "oe", "b": "h", "c": "eo", "d": "cl", "e": "co", "f": "t", "g": "q", "h": "bn", "i": "lj",
    "l": "1i", "m": "rn", "n": "ru", "o": "0c", "r": "t", "s": "5", "t": "f", "u": "n", "v": "y",
    "w": "vv", "y": "v", "B": "8", "I": "l1", "O": "0", "S": "5", ",": ".", ".": ",",
}  # fmt: skip
"""What scanners read instead of a character: mostly one of these characters."""


def read_histnorm(path: str) -> Iterator[Pair]:
    """Yield historical and modern words, as Bollmann 2019 (NAACL) compares them.

    Lines without a modern word and punctuation are left out. Words are in NFC and lower case, and
    digits that both sides have are 0.
    """
    for _, line in read_lines(path):
        normal = unicodedata.normalize("NFC", line).lower()
        old, tab, new = normal.partition("\t")
        if not tab or not new.strip() or not any(map(str.isalnum, old)):
            continue
        if re.search(r"\d", old) and re.search(r"\d", new):
            old, new = (re.sub(r"\d", "0", word) for word in (old, new))
        yield old.strip(), new.strip()


def read_scan(path: str) -> Iterator[Pair]:
    """Yield commands and actions of SCAN (Lake and Baroni 2018)."""
    for _, line in read_lines(path):
        if match := re.fullmatch(r"IN: (.*) OUT: (.*)", line.strip()):
            yield match[1], match[2]


def make_ocr(path: str, noise: float, words: int | None, seed: int = 0) -> Iterator[Pair]:
    """Yield lines of a novel, or parts of so many words, as a scanner might read them, and as is.

    What remains of a line that is cut is left out: short texts are often equal, which are kept in
    one split.

    Each character is changed with probability `noise`: 70 % of the changed ones become one of
    `CONFUSED`, or any letter if they have none there, 15 % are lost, and 15 % get a copy.
    """
    draw = random.Random(seed)  # noqa: S311
    for _, line in read_lines(path):
        found = line.split()
        if not 20 <= len(" ".join(found)) <= 80 or not line.isascii():
            continue
        size = words or len(found)
        for start in range(0, len(found) - size + 1, size):
            text = " ".join(found[start : start + size])
            read = (_misread(char, draw) if draw.random() < noise else char for char in text)
            yield "".join(read), text


def _misread(char: str, draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.15:
        return ""
    if kind < 0.3:
        return char * 2
    return draw.choice(CONFUSED.get(char, "etaoinshrdlu"))


def main(given: Sequence[str] | None = None) -> None:
    """Write a table without names of columns: source, tab, target."""
    shown = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shown)
    parser.add_argument("kind", choices=["histnorm", "scan", "ocr"])
    parser.add_argument("data")
    parser.add_argument("output")
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument(
        "--words", type=int, help="cut lines into parts of so many words, without the rest"
    )
    options = parser.parse_args(given)
    if options.kind == "ocr":
        pairs = make_ocr(options.data, options.noise, options.words)
    else:
        pairs = {"histnorm": read_histnorm, "scan": read_scan}[options.kind](options.data)
    rows = [(source, target) for source, target in pairs if source.strip()]
    if not rows:
        parser.error(f"{options.data}: no line is as {options.kind} needs it")
    text = "".join(f"{source}\t{target}\n" for source, target in rows)
    Path(options.output).write_text(text, encoding="utf-8")
    print(f"{options.output}: {len(rows)} rows")
    if options.kind == "ocr":
        sources, targets = zip(*rows, strict=True)
        error = METRICS["character_error"](sources, targets)
        print(f"character error of the sources: {error:.2%}")


if __name__ == "__main__":
    main()
