"""The base class of the settings of models, and the comparison of codecs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from freerun.data import Codec, Data
from freerun.models.huggingface import HuggingFacePolicy
from freerun.models.recurrent import RecurrentConfig, RecurrentPolicy
from freerun.settings import to_dict
from freerun.tasks import Task, load_data


@dataclass(frozen=True)
class TrainingDefaults:
    """Settings of training that are used if neither the user nor a recipe names them.

    Args:
        what: the kind of model in words.
        epochs: how often every example is read.
        least_updates: the minimum number of updates.
        learning_rate: the peak learning rate.
    """

    what: str = "new models"
    epochs: int = 60
    least_updates: int = 1_000
    learning_rate: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class ModelSettings(ABC):
    """The settings of a model: dataclasses, one for each kind.

    Attributes:
        kind: the name of the kind.
        training: settings of training that take precedence over the recipe of a task.
    """

    kind: ClassVar[str]
    training: ClassVar[Mapping[str, Any]] = {}

    @property
    def defaults(self) -> TrainingDefaults:
        """The settings of training that depend on the kind of model."""
        return TrainingDefaults()

    @property
    def reads_rows_at_once(self) -> bool:
        """Whether the model reads all cells of a row in one pass, as Transformers do."""
        return True

    @abstractmethod
    def build(self, codec: Codec) -> RecurrentPolicy | HuggingFacePolicy:
        """Build a policy for a codec.

        New weights are drawn from torch's global random generator.

        Raises:
            ValueError: if a setting is incompatible with the task.
        """

    def complete_task(self, task: Task) -> tuple[Task, list[str]]:
        """Fill in the settings of a task that depend on its data (see `Task.complete`).

        Raises:
            DataError: if the data cannot be used.
        """
        return task.complete()

    def load(self, task: Task) -> Data:
        """Load the data of a task, in the tokens of the model.

        Raises:
            DataError: if the data cannot be used (see `load_data`).
        """
        return load_data(task)

    def record(self) -> dict[str, Any]:
        """Return the kind and the settings, in the form of a `Record`."""
        return {"kind": self.kind} | to_dict(self)


def match_backspace(own: Codec, wanted: Codec) -> Codec:
    """Return a codec, with a backspace added if another codec has one."""
    return own if wanted.target.backspace is None else own.with_backspace()


def _count(factors: Sequence[int]) -> int | list[int]:
    """Return the number of tokens of sources, or that of each factor, for messages."""
    return factors[0] if len(factors) == 1 else list(factors)


def describe_difference(own: Codec | RecurrentConfig, wanted: Codec) -> str | None:
    """Describe in words how the codecs of a model and of a task differ; None if they do not.

    Args:
        own: the codec that was saved with the model, or its configuration.
        wanted: the codec of the task.
    """
    mine = own.vocabulary if isinstance(own, RecurrentConfig) else own.target
    theirs = wanted.target
    if (mine.backspace is None) != (theirs.backspace is None):
        one, other = ("task", "model") if mine.backspace is None else ("model", "task")
        return f"the {one} has a backspace, and the {other} has none (see with_backspace)"
    pairs: list[tuple[str, Any, Any]] = [
        ("features", own.features, wanted.features),
        ("the number of source tokens", _count(own.factors), _count(wanted.factors)),
        ("the number of symbols", len(mine.symbols), len(theirs.symbols)),
    ]
    special = ("bos", "pad", "eos", "backspace", "unknown")
    pairs += [(name, getattr(mine, name), getattr(theirs, name)) for name in special]
    for name, there, here in pairs:
        if there != here:
            return f"{name} of the model is {there}, of the task {here}"
    for i, (there, here) in enumerate(zip(mine.symbols, theirs.symbols, strict=True)):
        if there != here:
            return f"symbol {i} of the model is {there!r}, of the task {here!r}"
    return None
