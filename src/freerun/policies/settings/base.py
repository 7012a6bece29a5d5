"""What the settings of every kind of model have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from freerun.policies.recurrent import RecurrentPolicy
from freerun.settings import values_of
from freerun.tasks.base import Codec, Data, Task


@dataclass(frozen=True, kw_only=True)
class ModelSettings(ABC):
    """The settings of a model: dataclasses, one for each kind.

    Attributes:
        kind: what the kind is called.
        training: the settings of training that suit it better than those of a task.
    """

    kind: ClassVar[str]
    training: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def build(self, codec: Codec) -> RecurrentPolicy:
        """A policy that reads and writes what `codec` says.

        Weights that are drawn are drawn from torch's RNG.

        Raises:
            ValueError: where a setting does not suit the task.
        """

    def load(self, task: Task) -> Data:
        """The data of a task, in the tokens that the model reads and writes.

        Raises:
            DataError: where they cannot be used (see `Task.load`).
        """
        return task.load()

    def record(self) -> dict[str, Any]:
        """The kind and the settings, as they are written down."""
        return {"kind": self.kind} | values_of(self)
