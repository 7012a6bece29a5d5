"""What is reported of outputs where no task says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from freerun.tasks.base import Data, DataError
from freerun.tasks.scored import CharacterTask


@dataclass(frozen=True)
class Outputs(CharacterTask):
    """Outputs against their references, for data that were given without a task."""

    name: ClassVar[str] = "outputs"
    summary: ClassVar[str] = "outputs against their references, as text"
    metric: ClassVar[str] = "exact_match"
    greater_is_better: ClassVar[bool] = True

    def load(self) -> Data:
        """There is nothing to load.

        Raises:
            DataError: always.
        """
        raise DataError("data were given without a task; there is none to load")
