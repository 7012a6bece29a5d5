"""What every task is: examples to train on, and what is reported of free-running outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from freerun.batch import Batch
from freerun.vocabulary import Vocabulary

T = TypeVar("T")


class DataError(ValueError):
    """Data that cannot be used: the message names the file, the line and what would be right."""


@runtime_checkable
class Examples(Protocol):
    """One split of a task's data. Examples are numbered from 0; ids of a batch are the numbers."""

    @property
    def references(self) -> Sequence[Sequence[int]]:
        """The target tokens of every example, without eos."""
        ...

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def batch(self, numbers: Sequence[int] | Int[Tensor, "b"], epoch: int = 0) -> Batch:
        """The examples of these numbers. What a training set draws anew, it draws by `epoch`."""
        ...


@runtime_checkable
class Sources(Examples, Protocol):
    """Examples to predict from: their targets are empty."""

    @property
    def lines(self) -> Sequence[Sequence[str]]:
        """The lines that every example was read from."""
        ...


class Codec(ABC):
    """What a model of a task reads and writes: all that a checkpoint must keep beside weights.

    Attributes:
        task: the name of the task.
        shared: whether sources are written in the tokens of targets, as with a tokenizer.
    """

    task: ClassVar[str]
    shared: ClassVar[bool] = False

    @property
    @abstractmethod
    def target(self) -> Vocabulary:
        """The tokens that are written."""

    @property
    @abstractmethod
    def features(self) -> int | None:
        """The width of real-valued inputs; None for token inputs."""

    @property
    @abstractmethod
    def factors(self) -> tuple[int, ...]:
        """How many ids each of the tokens at a position has, padding included; () for real inputs.

        Ids of factor k lie in 0 … factors[k]-1. With one factor a source is Int[b, s], with more it
        is Int[b, s, f].
        """

    @property
    @abstractmethod
    def limit(self) -> int | None:
        """The most tokens that an output may have, eos included.

        None where every output is as long as its source.
        """

    def with_backspace(self) -> Codec:
        """The same with an action that withdraws the last token; itself, where it has one.

        Examples stay valid: the ids of targets do not move, and padding is told by masks.

        Raises:
            ValueError: where outputs have no eos, or this kind of codec knows no backspace.
        """
        if self.target.backspace is not None:
            return self
        reason = f"{type(self).__name__} knows none"
        if self.target.eos is None:
            reason = "its outputs end with their source, not by a token"
        raise ValueError(f"the task {self.task} has no backspace: {reason}")

    @abstractmethod
    def read(self, lines: Sequence[str], name: str) -> Sources:
        """Sources without targets from the lines of a file called `name`, to predict from.

        Raises:
            DataError: naming the file, the line and what would be right.
        """

    @abstractmethod
    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The text of an output, as `freerun predict` prints it, eos or not.

        Args:
            tokens: the output.
            source: the lines its source was read from (`Sources.lines`).
        """

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an output by itself, in one line, eos or not."""
        return self.write(tokens, ())

    def source_text(self, values: Tensor) -> str | None:
        """The text of a source; None where sources are no text.

        Args:
            values: the row of `Source.values`, without padding.
        """
        return None

    @abstractmethod
    def evaluation(self, path: str) -> Examples:
        """Examples with targets from a new file of the task's format, to evaluate on.

        Raises:
            DataError: naming the file, the line and what would be right; also where a target holds
                what this codec cannot write.
        """

    @abstractmethod
    def save_pretrained(self, directory: str) -> None:
        """Write codec.json into `directory`."""

    @classmethod
    @abstractmethod
    def from_pretrained(cls, directory: str) -> Codec:
        """The codec that was saved in `directory`.

        Raises:
            DataError: where there is none, or none of this task.
        """


class Splits(dict[str, list[T]]):
    """What stands in each split: `train`, `dev` and `test`.

    Args:
        parts: the splits.
        notes: what a user should know of them.
    """

    def __init__(self, parts: Mapping[str, Iterable[T]], notes: Sequence[str] = ()) -> None:
        super().__init__({name: list(part) for name, part in parts.items()})
        self.notes = list(notes)


@dataclass(frozen=True)
class Data:
    """A task's data, read and split.

    Attributes:
        train: examples to train on.
        dev: examples to choose settings and checkpoints by.
        test: examples to report on.
        codec: what a model of it reads and writes.
        notes: what a user should know: sizes, overlaps, what was replaced.
    """

    train: Examples
    dev: Examples
    test: Examples
    codec: Codec
    notes: list[str] = field(default_factory=list)


class Task(ABC):
    """A task: a dataclass whose fields are its settings.

    Attributes:
        name: what it is called on the command line.
        summary: one line on what is read and written.
        metric: the name of the headline metric in `score`.
        greater_is_better: whether a larger headline metric is better.
        cost: the name of what an output costs in training that looks at costs, where the user
            chooses none.
        recipe: the settings of model and training that suit it, where the user gives none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    metric: ClassVar[str]
    greater_is_better: ClassVar[bool] = False
    cost: ClassVar[str]
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {"model": {}, "training": {}}

    @abstractmethod
    def load(self) -> Data:
        """Read, check and split the data.

        Raises:
            DataError: naming the file, the line and what would be right.
        """

    def texts(self) -> Splits[tuple[str, str]]:
        """The splits as pairs of texts, source and target, for models with a tokenizer.

        Raises:
            DataError: where sources or targets are no text; also as `load` does.
        """
        raise DataError(
            f"the task {self.name} is not text, which is all that a tokenizer reads and writes; "
            "take a recurrent model"
        )

    def rows(self) -> Splits[Mapping[str, Any]]:
        """The splits as rows with the columns that `TextExamples` reads.

        Raises:
            DataError: as `texts` does.
        """
        texts = self.texts()
        return Splits(
            {
                name: [{"source": source, "target": target} for source, target in part]
                for name, part in texts.items()
            },
            texts.notes,
        )

    def reading(self) -> dict[str, Any]:
        """The settings of a `TextCodec` that rows are to be read with."""
        return {}

    def evaluation(self, codec: Codec, path: str) -> Examples:
        """Examples from a new file of the task's format, as `codec` reads and writes them.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        return codec.evaluation(path)

    @abstractmethod
    def score(
        self,
        codec: Codec,
        hypotheses: Sequence[Sequence[int]],
        examples: Examples,
    ) -> dict[str, float]:
        """The metrics of free-running outputs, eos left out, one for each of the examples."""

    def signatures(self) -> dict[str, str]:
        """How metrics are computed, by name, as the library says that computes them.

        Only of those whose figures cannot be compared without knowing it, such as BLEU.
        """
        return {}

    def mistakes(self, vocabulary: Vocabulary) -> Mapping[int, Sequence[int]]:
        """For each token, others that are plausibly written in its place by mistake.

        Tokens that are not named are never mistaken.

        Args:
            vocabulary: the tokens that are written.

        Raises:
            ValueError: where the task or the vocabulary has no such tokens.
        """
        raise ValueError(
            f"the task {self.name} names no plausible mistakes; use noise_tokens=random"
        )

    @abstractmethod
    def position_errors(self, hypothesis: Sequence[int], reference: Sequence[int]) -> list[bool]:
        """For every position of the reference, whether the output is wrong there.

        The unknown token is -1 in the reference: it equals none.
        """

    @abstractmethod
    def majority(self, data: Data) -> dict[str, float]:
        """The metrics on the test set of a guess that never looks at its source."""
