"""The plan of a comparison, which is saved in its folder and checked when it is resumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from freerun.data import Data
from freerun.errors import CheckpointError, WriteError
from freerun.methods import Method
from freerun.metrics import get_headline
from freerun.models.settings import ModelSettings
from freerun.report.labels import label, scale, unit
from freerun.study.specs import make_folder_name
from freerun.tasks.base import Task
from freerun.training import TrainingSettings
from freerun.training.folders import check_not_file, check_unlocked
from freerun.training.record import RECORD_FILE, Record

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

    @property
    def runs(self) -> list[tuple[str, int, Path]]:
        """Variant, seed and folder of every run, seed by seed, so that methods keep pace."""
        return [
            (name, seed, Path(make_folder_name(name), f"seed-{seed}"))
            for seed in self.seeds
            for name in self.methods
        ]

    @property
    def threads(self) -> int:
        """The number of threads of a run.

        Its default depends neither on the machine nor on how many runs are side by side, as the
        number of threads may change the last bits of sums.
        """
        return self.training.threads or 1

    @property
    def base(self) -> str | None:
        """The baseline: the variant called mle, otherwise the first one of the method MLE."""
        of_mle = [name for name, method in self.methods.items() if method.name == "mle"]
        return "mle" if "mle" in of_mle else next(iter(of_mle), None)

    def describe_headline(self, metrics: Mapping[str, float], split: str) -> str:
        """Return the headline metric of the task as text.

        Args:
            metrics: all metrics.
            split: what they were measured on.
        """
        name = get_headline(self.task.get_metrics()).name
        figure = f"{metrics[name] * scale(name):.2f} {unit(name)}".strip()
        return f"{label(name)} on {split} {figure}"

    def record(self, data: Data | None = None) -> Record:
        """Return the record of the plan, with the digests of the data files."""
        return Record.build(
            self.task, self.methods, self.model, self.training, seeds=self.seeds, data=data
        )

    def check(self, output: Path) -> Record | None:
        """Check that `output` contains this comparison or nothing; methods and seeds may differ.

        Returns:
            The saved plan, if there is one.

        Raises:
            CheckpointError: if it contains another comparison, or something else.
        """
        path = output / PLAN_FILE
        check_not_file(output)
        check_unlocked(output)
        if path.exists():
            saved, own = Record.read(path), self.record()
            both = [name for name in own.methods if name in saved.methods]
            _pick(own, both).check(_pick(saved, both), output, "comparison")
            check_folders(own.methods, saved, output)
            return saved
        if output.exists() and any(output.iterdir()):
            first = min(inner.name for inner in output.iterdir())
            raise CheckpointError(
                f"{output}: it holds {first} but no comparison; choose another output directory"
            )
        return None

    def claim(self, output: Path, saved: Record | None) -> None:
        """Write the plan into `output`.

        Args:
            output: the folder of the comparison.
            saved: the plan in it, whose methods and seeds are kept.

        Raises:
            CheckpointError: if it cannot be written.
        """
        record = self.record()
        if saved is not None:
            methods = {**saved.methods, **record.methods}
            seeds = list(dict.fromkeys([*saved.seeds, *record.seeds]))
            record = replace(record, methods=methods, seeds=seeds)
        try:
            record.write(output / PLAN_FILE)
        except WriteError as error:
            raise CheckpointError(str(error)) from None

    def describe_progress(self, output: Path, saved: Record | None) -> list[str]:
        """Describe in lines which runs are finished, and which are left to train.

        Args:
            output: the folder of the comparison.
            saved: the plan in it.
        """
        if saved is None:
            return []
        left = [(name, seed) for name, seed, path in self.runs if not _is_finished(output / path)]
        count = len(self.runs)
        lines = [f"{count - len(left)} of {count} runs are finished"]
        if left:
            names = dict.fromkeys(name for name, _ in left)
            seeds = {name: [str(seed) for other, seed in left if other == name] for name in names}
            listed = (f"{name} (seed {', '.join(of)})" for name, of in seeds.items())
            lines[0] += f"; training {len(left)}: {', '.join(listed)}"
        methods = [name for name in saved.methods if name not in self.methods]
        unused = [f"seed {seed}" for seed in saved.seeds if seed not in self.seeds]
        if methods or unused:
            lines.append(f"left out, but kept: {', '.join([*methods, *unused])}")
        return lines


def _is_finished(folder: Path) -> bool:
    path = folder / RECORD_FILE
    return path.exists() and Record.read(path).is_finished


def _pick(record: Record, methods: Iterable[str]) -> Record:
    """Return the record of some of the methods, without seeds."""
    return replace(record, methods={name: record.methods[name] for name in methods}, seeds=[])


def check_folders(names: Iterable[str], saved: Record, output: Path) -> None:
    """Check that no variant would share the folder of one with another name.

    Args:
        names: the names of the variants.
        saved: the plan in the folder of the comparison.
        output: that folder.

    Raises:
        CheckpointError: if two do.
    """
    folders = {make_folder_name(name): name for name in saved.methods}
    for name in names:
        other = folders.get(make_folder_name(name), name)
        if other != name:
            raise CheckpointError(
                f"{output}: {name!r} would share the folder of {other!r} there; choose another name"
            )
