"""The plan of a comparison, which is saved in its folder and checked when it is resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from freerun.data import Data
from freerun.errors import CheckpointError, WriteError
from freerun.methods import Method
from freerun.models.settings import ModelSettings
from freerun.study.specs import make_folder_name
from freerun.tasks.base import Task
from freerun.training import TrainingSettings
from freerun.training.folders import check_not_file, check_unlocked
from freerun.training.record import Record

PLAN_FILE = "comparison.json"


@dataclass(frozen=True)
class Plan:
    """Every method with every seed, on one task, with the same model and training settings.

    Args:
        task: the task.
        methods: the methods, by the names of their variants.
        seeds: the seeds of the runs of each method.
        model: the settings of the model.
        training: the settings of training; its seed is not used.
        learning_rates: the learning rates that were found by tuning, by variant.
    """

    task: Task
    methods: Mapping[str, Method]
    seeds: tuple[int, ...]
    model: ModelSettings
    training: TrainingSettings
    learning_rates: Mapping[str, float] = field(default_factory=dict)

    def get_training(self, name: str, seed: int) -> TrainingSettings:
        """Return the settings of training of a run."""
        rate = self.learning_rates.get(name, self.training.learning_rate)
        return replace(self.training, learning_rate=rate, seed=seed)

    def runs(self) -> Iterator[tuple[str, int, Path]]:
        """Yield variant, seed and folder of every run, seed by seed, so that methods keep pace."""
        for seed in self.seeds:
            for name in self.methods:
                yield name, seed, Path(make_folder_name(name), f"seed-{seed}")

    @property
    def base(self) -> str | None:
        """The baseline: the variant called mle, otherwise the first one of the method MLE."""
        of_mle = [name for name, method in self.methods.items() if method.name == "mle"]
        return "mle" if "mle" in of_mle else next(iter(of_mle), None)

    def record(self, data: Data | None = None) -> Record:
        """Return the record of the plan, with the digests of the data files."""
        return Record.build(
            self.task, self.methods, self.model, self.training, seeds=self.seeds, data=data
        )

    def check(self, output: Path) -> None:
        """Check that `output` contains this comparison, or nothing.

        Raises:
            CheckpointError: if it contains another comparison, or something else.
        """
        path = output / PLAN_FILE
        check_not_file(output)
        check_unlocked(output)
        if path.exists():
            self.record().check(Record.read(path), output, "comparison")
        elif output.exists() and any(output.iterdir()):
            first = min(inner.name for inner in output.iterdir())
            raise CheckpointError(
                f"{output}: it holds {first} but no comparison; choose another output directory"
            )

    def claim(self, output: Path) -> None:
        """Write the plan into `output`.

        Raises:
            CheckpointError: if it cannot be written.
        """
        try:
            self.record().write(output / PLAN_FILE)
        except WriteError as error:
            raise CheckpointError(str(error)) from None
