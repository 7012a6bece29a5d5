"""Questions of arithmetic to answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from freerun.data import DataError, Splits
from freerun.data.noise import find_confusable_digits
from freerun.data.questions import MAX_DIGITS, Question, generate, read_questions
from freerun.data.rows import Row
from freerun.data.splits import (
    add_missing_splits,
    describe_sizes,
    limit_to_tenth,
    note_shared,
    subsample,
)
from freerun.tasks.base import Recipe, Task
from freerun.vocabulary import Vocabulary

GENERATED = 20_000
"""The number of generated questions to train on by default."""
DIGITS = 4
"""The maximum number of digits of a number in them by default."""


@dataclass(frozen=True)
class Arithmetic(Task):
    """Questions of arithmetic, such as "What is 0.3 + -42.31?", to their answers.

    In the style of the DeepMind mathematics dataset (Saxton et al. 2019, arXiv 1904.01557), whose
    files it reads: questions and answers take turns, a line each. Both are read and written as
    characters. If test or dev is missing, it is taken out of the data at random: all questions with
    the same words stay in one split.

    Args:
        data: a text file, plain or gzipped, or a folder of such files, which are read together;
            by default, sums and differences of two numbers are generated.
        test: a file or folder to test on, such as one with larger numbers; by default, a part of
            the questions is held out.
        digits: the maximum number of digits of a number in generated questions, from 1 to 9; by
            default 4.
        train_size: the maximum number of questions to train on, drawn by seed; by default all, and
            20000 if they are generated.
        dev_size: the maximum number of questions in dev, at most a tenth of the data.
        test_size: the maximum number of questions in test, at most a tenth of the data if `test` is
            not given.
        seed: the seed of the split and of generated questions.
    """

    name: ClassVar[str] = "arithmetic"
    summary: ClassVar[str] = "questions of arithmetic to answers; generated, or any text files"
    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "character_error")
    cost: ClassVar[str] = "edit_distance"
    recipe: ClassVar[Recipe] = {
        "model": {
            "cell": "gru",
            "hidden_size": 128,
            "embedding_size": 64,
            "bidirectional": True,
            "attention": "additive",
        },
        "training": {
            "updates": 3_000,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "lr_schedule": "linear",
            "evaluate_every": 500,
        },
    }

    data: str | None = None
    test: str | None = None
    digits: int | None = None
    train_size: int | None = None
    dev_size: int = 500
    test_size: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: if a setting is out of range or has no effect. The message names it.
        """
        if self.digits is not None:
            if self.data is not None:
                raise ValueError("digits has no effect on data that are given; leave one out")
            if not 1 <= self.digits <= MAX_DIGITS:
                raise ValueError(f"digits is {self.digits}; it must lie in 1 … {MAX_DIGITS}")
        self.check_sizes("train_size", "dev_size", "test_size")

    def rows(self) -> Splits[Row]:
        """Read or generate the questions, and split them.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        parts, notes = self._generate() if self.data is None else self._read(self.data)
        if self.test is not None:
            parts["test"] = read_questions(self.test)
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        where, what = self.data or "arithmetic", ("questions", "words")
        stream = (self.seed, "arithmetic split")
        most = limit_to_tenth(sizes, parts["train"])
        add_missing_splits(parts, _key, most, *stream, where=where, what=what)
        notes += subsample(parts, sizes, self.seed, "arithmetic", "questions")
        notes += note_shared(parts, _key, "questions")
        notes.append(describe_sizes(parts, "questions"))
        return Splits({name: [q.row for q in part] for name, part in parts.items()}, notes)

    def read_examples(self, path: str) -> list[Row]:
        """Read the questions and answers of another file or folder (see `read_questions`).

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return [question.row for question in read_questions(path)]

    def mistakes(self, vocabulary: Vocabulary) -> Mapping[int, Sequence[int]]:
        """Return for every digit the other digits.

        In the vocabulary of a pretrained model, digits with a space before them are only confused
        with each other.

        Raises:
            ValueError: if no two tokens are digits.
        """
        return find_confusable_digits(vocabulary.symbols)

    def _read(self, data: str) -> tuple[dict[str, list[Question]], list[str]]:
        return {"train": read_questions(data)}, []

    def _generate(self) -> tuple[dict[str, list[Question]], list[str]]:
        """Generate distinct questions for the splits that are not given."""
        digits = self.digits or DIGITS
        counts = {"dev": self.dev_size, "train": self.train_size or GENERATED}
        if self.test is None:
            counts = {"test": self.test_size, **counts}
        try:
            questions = generate(sum(counts.values()), digits, self.seed)
        except ValueError as error:
            raise DataError(f"arithmetic: {error}") from None
        parts = {}
        for name, count in counts.items():
            parts[name], questions = questions[:count], questions[count:]
        return parts, [f"the questions are generated, of numbers of up to {digits} digits"]


def _key(question: Question) -> str:
    return question.key
