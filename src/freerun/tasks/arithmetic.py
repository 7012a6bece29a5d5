"""Questions of arithmetic to answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from freerun.data import Codec, Data, DataError, Examples, Splits, TextCodec
from freerun.data.noise import mistaken_digits
from freerun.data.questions import MAX_DIGITS, Question, generate, read_questions
from freerun.data.saved import SavedCodec
from freerun.data.splits import complete, cut, shared
from freerun.data.store import Ragged, Stored
from freerun.tasks.scored import CharacterTask
from freerun.vocabulary import EOS, Vocabulary


@dataclass(frozen=True)
class ArithmeticCodec(SavedCodec):
    """Characters in, characters and eos out.

    Args:
        longest: the most characters of an answer of the data.
        source_symbols: the characters of questions.
        target_symbols: the characters of answers.
    """

    task = "arithmetic"
    features = None
    longest: int
    source_symbols: str
    target_symbols: str

    @classmethod
    def learn(cls, questions: Sequence[Question]) -> ArithmeticCodec:
        """The codec of the characters of these questions and answers."""
        asked = "".join(sorted({c for question in questions for c in question.text}))
        answered = "".join(sorted({c for question in questions for c in question.answer}))
        return cls(max(len(question.answer) for question in questions), asked, answered)

    @cached_property
    def source(self) -> Vocabulary:
        """The characters that are read."""
        return Vocabulary.build(self.source_symbols, eos=False)

    @cached_property
    def target(self) -> Vocabulary:
        """The characters that are written, and eos."""
        found = Vocabulary.build(self.target_symbols, eos=True)
        return found.with_backspace() if self.backspace else found

    @property
    def factors(self) -> tuple[int, ...]:
        """A position of the source has one character."""
        return (self.source.size,)

    @property
    def limit(self) -> int:
        """Half as many characters again as the longest answer of the data, and eos."""
        return self.longest + self.longest // 2 + 1

    def read(self, lines: Sequence[str], name: str) -> Stored:
        """Questions to answer, one a line.

        Raises:
            DataError: where a line is empty or has a character that training never met.
        """
        if not lines:
            raise DataError(f"{name}: nothing to read")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise DataError(f"{name}, line {number}: there is no question")
        rows = [
            _encoded(line.strip(), self.source, f"{name}, line {number}", "question")
            for number, line in enumerate(lines, 1)
        ]
        empty = Ragged.of([[] for _ in lines], self.target.pad)
        sources = Ragged.of(rows, self.source.pad)
        return Stored(sources, empty, eos=False, lines=[[line] for line in lines])

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The answer."""
        return "".join(self.target.decode(tokens))

    def source_text(self, values: Tensor) -> str:
        """The question."""
        return "".join(self.source.decode(values.tolist()))

    def evaluation(self, path: str) -> Stored:
        """The questions and answers of another file or folder (see `read_questions`).

        Raises:
            DataError: naming the file, the line and what would be right; also where a character is
                none that training met.
        """
        return self.examples(read_questions(path))

    def examples(self, questions: Sequence[Question]) -> Stored:
        """Questions and answers as examples.

        Raises:
            DataError: naming the file and the line of a character that is not here.
        """
        sources, targets = [], []
        end = self.target.ids[EOS]
        for question in questions:
            place, below = (f"{question.file}, line {question.line + i}" for i in (0, 1))
            sources.append(_encoded(question.text, self.source, place, "question"))
            targets.append([*_encoded(question.answer, self.target, below, "answer"), end])
        rows = Ragged.of(sources, self.source.pad), Ragged.of(targets, self.target.pad)
        return Stored(*rows, eos=True)


def _encoded(text: str, vocabulary: Vocabulary, where: str, what: str) -> list[int]:
    """The tokens of a text.

    Raises:
        DataError: where a character is none of the vocabulary.
    """
    unknown = next((c for c in text if c not in vocabulary.ids), None)
    if unknown is not None:
        known = "".join(symbol for symbol in vocabulary.symbols if symbol != EOS)
        raise DataError(
            f"{where}: the {what} has {unknown!r}, which no {what} of training has; its characters "
            f"are {known!r}"
        )
    return vocabulary.encode(text)


GENERATED = 20_000
"""How many questions to train on are generated, where no size is given."""
DIGITS = 4
"""The most digits of a number in them, likewise."""


@dataclass(frozen=True)
class Arithmetic(CharacterTask):
    """Questions of arithmetic, such as "What is 0.3 + -42.31?", to their answers.

    In the style of the DeepMind mathematics dataset (Saxton et al. 2019, arXiv 1904.01557), whose
    files it reads: questions and answers take turns, a line each. Both are read and written as
    characters. Where test or dev is missing, it is taken out of the data at random: all questions
    with the same words stay in one split.

    Args:
        data: a text file, plain or gzipped, or a folder of such files, which are read together;
            left out, sums and differences of two numbers are generated.
        test: a file or a folder to report on, such as one of larger numbers; left out, questions
            are set apart.
        digits: the most digits of a number in generated questions, from 1 to 9; left out, 4.
        train_size: the most questions to train on, drawn by seed; left out, all, and 20000 where
            they are generated.
        dev_size: the most questions of dev, and at most a tenth of the data.
        test_size: the most questions of test, and at most a tenth of the data where it is taken
            out of them.
        seed: the seed of the split, and of what is drawn.
    """

    name: ClassVar[str] = "arithmetic"
    summary: ClassVar[str] = "questions of arithmetic to answers; generated, or any text files"
    metric: ClassVar[str] = "exact_match"
    greater_is_better: ClassVar[bool] = True
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
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
        """Check the ranges.

        Raises:
            ValueError: naming the setting that is out of range or has no effect.
        """
        if self.digits is not None:
            if self.data is not None:
                raise ValueError("digits has no effect on data that are given; leave one out")
            if not 1 <= self.digits <= MAX_DIGITS:
                raise ValueError(f"digits is {self.digits}; it must lie in 1 … {MAX_DIGITS}")
        for name in ("train_size", "dev_size", "test_size"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")

    def load(self) -> Data:
        """Read or generate, and split the questions.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        parts, notes = self._parts()
        codec = ArithmeticCodec.learn([*parts["train"], *parts["dev"]])
        train, dev, test = (codec.examples(parts[name]) for name in ("train", "dev", "test"))
        return Data(train, dev, test, codec, notes)

    def texts(self) -> Splits[tuple[str, str]]:
        """The questions and answers of every split.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        parts, notes = self._parts()
        pairs = {name: [(q.text, q.answer) for q in part] for name, part in parts.items()}
        return Splits(pairs, notes)

    def evaluation(self, codec: Codec, path: str) -> Examples:
        """The questions and answers of another file or folder.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        if not isinstance(codec, TextCodec):
            return codec.evaluation(path)
        pairs = [(question.text, question.answer) for question in read_questions(path)]
        return codec.encode([{"source": one, "target": other} for one, other in pairs], path)

    def mistakes(self, vocabulary: Vocabulary) -> Mapping[int, Sequence[int]]:
        """Every digit may be mistaken for any other digit.

        Of a tokenizer these are the tokens that are one digit, those with a space before it among
        themselves.

        Args:
            vocabulary: the tokens that are written.

        Raises:
            ValueError: where no two tokens are digits.
        """
        return mistaken_digits(vocabulary.symbols)

    def _parts(self) -> tuple[dict[str, list[Question]], list[str]]:
        """The questions of every split, and notes on them."""
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        own = {"dev": self.dev_size, "test": self.test_size}
        notes = []
        if self.data is None:
            parts, note = self._generated()
            notes.append(note)
        else:
            parts = {"train": read_questions(self.data)}
        if self.test is not None:
            parts["test"] = read_questions(self.test)
        total = len(parts["train"])
        complete(parts, lambda question: question.key, own, self.seed, "arithmetic split")
        if not all(parts.values()):
            raise DataError(f"{self.data}: {total} questions are too few to split")
        notes += cut(parts, sizes, self.seed, "arithmetic", "questions")
        for name in ("dev", "test"):
            common = shared(*([question.key for question in parts[k]] for k in (name, "train")))
            if common:
                notes.append(f"{common} questions of {name} also stand in train")
        notes.append(", ".join(f"{name} {len(parts[name])}" for name in sizes) + " questions")
        return parts, notes

    def _generated(self) -> tuple[dict[str, list[Question]], str]:
        """Generated questions, all different, and a note on them."""
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
        return parts, f"the questions are generated, of numbers of up to {digits} digits"
