"""What a model of arithmetic reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from freerun.tasks.base import DataError
from freerun.tasks.codec import SavedCodec
from freerun.tasks.questions import Question, read_questions
from freerun.tasks.store import Ragged, Stored
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
