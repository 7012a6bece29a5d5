"""Questions of arithmetic and their answers: from files, or generated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import count as count_from
from itertools import islice
from pathlib import Path

import torch

from freerun.data.files import read_lines
from freerun.data.rows import Row
from freerun.errors import DataError
from freerun.randomness import below, uniform

SUFFIXES = (".txt", ".txt.gz")
MAX_DIGITS = 9
"""The maximum number of digits of a generated number."""

_SUMS = (
    "{a}+{b}",
    "{a} + {b}",
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "Work out {a} + {b}.",
    "Add {a} and {b}.",
    "Add {a} to {b}.",
    "What is the sum of {a} and {b}?",
)
_DIFFERENCES = (
    "{a} - {b}",
    "Calculate {a} - {b}.",
    "What is {a} - {b}?",
    "What is {a} minus {b}?",
    "Work out {a} - {b}.",
    "Subtract {b} from {a}.",
    "Take {b} away from {a}.",
    "What is {b} less than {a}?",
)
_FORMS = (*((form, 1) for form in _SUMS), *((form, -1) for form in _DIFFERENCES))
"""The forms of questions, and the sign of b in the answer."""


@dataclass(frozen=True)
class Question:
    """A question and its answer.

    Args:
        text: the question.
        answer: the answer.
        file: the file from which it was read; empty if it was generated.
        line: the line of the question in it, counted from 1; the answer is on the next line.
    """

    text: str
    answer: str
    file: str = ""
    line: int = 0

    @property
    def key(self) -> str:
        """The key that equal questions share: the words, regardless of white space."""
        return " ".join(self.text.split())

    @property
    def row(self) -> Row:
        """The question as a row with the columns `source` and `target`."""
        row = {"source": self.text, "target": self.answer}
        return row if not self.file else {**row, "where": f"{self.file}, line {self.line}"}


def read_questions(path: str) -> list[Question]:
    """Read the questions of a file, plain or gzipped, or of all such files in a folder.

    Questions and answers alternate, one per line, as in the DeepMind mathematics dataset (Saxton et
    al. 2019, arXiv 1904.01557). White space around them is removed.

    Raises:
        DataError: if a file is missing, a line is empty, the last question has no answer, or a
            folder has no file whose name ends in .txt or .txt.gz.
    """
    if not Path(path).is_dir():
        return _read_file(path)
    files = sorted(str(file) for file in Path(path).iterdir() if file.name.endswith(SUFFIXES))
    if not files:
        raise DataError(f"{path}: no file in this folder ends in {' or '.join(SUFFIXES)}")
    return [question for file in files for question in _read_file(file)]


def _read_file(path: str) -> list[Question]:
    lines = [(number, line.strip()) for number, line in read_lines(path)]
    for (number, line), what in zip(lines, ("question", "answer") * len(lines), strict=False):
        if not line:
            raise DataError(
                f"{path}, line {number}: the {what} is empty; questions and answers take turns, a "
                "line each"
            )
    if len(lines) % 2:
        raise DataError(
            f"{path}, line {len(lines)}: the question has no answer; questions and answers take "
            "turns, a line each"
        )
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [Question(text, answer, path, number) for (number, text), (_, answer) in pairs]


def generate(count: int, digits: int, seed: int) -> list[Question]:
    """Generate distinct questions that add or subtract two numbers.

    A number has one to `digits` digits, any of which may be zero. Half of them are whole, and half
    have one to `digits` decimals; half are negative. The first questions do not depend on the
    number requested.

    Raises:
        ValueError: if there are not as many questions.
    """
    found: dict[str, Question] = {}
    for question in islice(_draws(digits, seed), 2 * count + 1_000):
        found.setdefault(question.text, question)
        if len(found) == count:
            return list(found.values())
    raise ValueError(
        f"{count} different questions are needed, and with numbers of {digits} digits only "
        f"{len(found)} were found; use more digits"
    )


def _draws(digits: int, seed: int, block: int = 4096) -> Iterator[Question]:
    """Yield questions endlessly, drawn in blocks."""
    powers = 10 ** torch.arange(digits + 1)
    for start in count_from(0, block):
        ids = torch.arange(start, start + block)
        forms = below(len(_FORMS), seed, "arithmetic form", ids).tolist()
        sides = []
        for side in (0, 1):
            lengths = below(digits, seed, "arithmetic digits", ids, side) + 1
            share = uniform(seed, "arithmetic number", ids, side, dtype=torch.float64)
            sign = 1 - 2 * below(2, seed, "arithmetic sign", ids, side)
            values = (share * powers[lengths]).long() * sign
            places = below(2 * digits, seed, "arithmetic decimals", ids, side) + 1 - digits
            pairs = zip(values.tolist(), places.clamp(min=0).tolist(), strict=True)
            sides.append([Decimal(value).scaleb(-place) for value, place in pairs])
        for form, a, b in zip(forms, *sides, strict=True):
            words, sign_of_b = _FORMS[form]
            answer = a + sign_of_b * b
            yield Question(words.format(a=_plain(a), b=_plain(b)), _plain(answer))


def _plain(number: Decimal) -> str:
    """Format a number without exponent, trailing zeros, or a sign before zero."""
    return f"{number.normalize() + 0:f}"
