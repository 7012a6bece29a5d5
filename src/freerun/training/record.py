"""freerun.json: what a run is, and once it is finished, what came of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from freerun.data import Data, Task
from freerun.data.files import write_text
from freerun.errors import CheckpointError
from freerun.methods import METHODS, Method
from freerun.models.settings import ModelSettings, RecurrentSettings
from freerun.settings import list_settings, to_dict
from freerun.training.checkpoints import read_json
from freerun.training.settings import TrainingSettings

RECORD_FILE = "freerun.json"
_IDENTITY = ("task", "method", "model", "training", "init", "examples")
_OF_ANOTHER = ("config.json", "model.safetensors", "checkpoint-*", "comparison.json")

Point = dict[str, int | float]
"""What is known at an evaluation, by name."""


@dataclass(kw_only=True)
class Record:
    """A run: its settings, and its results once it is finished.

    Attributes:
        task: name and settings of the task.
        method: name and settings of the method.
        model: the kind and the settings of the model.
        training: the settings of training.
        init: the checkpoint that training started from, if any.
        examples: how many there are to train on, and in dev and test.
        versions: of Python and the libraries.
        horizon: the updates that schedules are fitted to.
        finished: whether the run is finished; what follows is set then.
        updates: updates done.
        seconds: seconds of training.
        seconds_per_update: the mean time of an update.
        best_update: the update after which dev was best.
        kept_update: the update whose model was kept.
        dev: the metrics of the kept model on dev.
        curve: what was found at every evaluation.
    """

    task: dict[str, Any]
    method: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any]
    init: str | None
    examples: dict[str, int]
    versions: dict[str, str] = field(default_factory=lambda: _versions())
    horizon: int | None = None
    finished: bool = False
    updates: int = 0
    seconds: float = 0.0
    seconds_per_update: float = 0.0
    best_update: int | None = None
    kept_update: int = 0
    dev: dict[str, float] = field(default_factory=dict)
    curve: list[Point] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        task: Task,
        data: Data,
        method: Method,
        model: ModelSettings,
        training: TrainingSettings,
        init: Path | None,
    ) -> Record:
        """The record of a run that has not begun."""
        examples = {"train": len(data.train), "dev": len(data.dev), "test": len(data.test)}
        record = cls(
            task=_settings(task),
            method=_settings(method),
            model=model.record(),
            training=asdict(training),
            init=None if init is None else str(init),
            examples=examples,
        )
        # As it is read back: with lists for tuples.
        return cls(**json.loads(record.text()))

    def text(self) -> str:
        """The record as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, default=str) + "\n"

    def write(self, output: Path) -> None:
        """Write the record into a run's folder, as a whole."""
        write_text(str(output / RECORD_FILE), self.text())

    def resumed(self, output: Path) -> Record:
        """This run as it stands in its folder; itself, where it has not begun.

        Raises:
            CheckpointError: where the folder holds another run, or other files of that kind.
        """
        if not (output / RECORD_FILE).exists():
            for pattern in _OF_ANOTHER:
                for path in sorted(output.glob(pattern)):
                    raise CheckpointError(
                        f"{output}: it holds {path.name} but no {RECORD_FILE}, so it is not a run "
                        "of freerun's; choose another output directory"
                    )
            return self
        contents = read_json(output / RECORD_FILE)
        missing = [name for name in _IDENTITY if name not in contents]
        unknown = contents.keys() - {field.name for field in fields(self)}
        if missing or unknown:
            name = (missing or sorted(unknown))[0]
            fault = "is missing" if missing else "is unknown"
            raise CheckpointError(f"{output / RECORD_FILE}: the field {name!r} {fault}")
        found = Record(**contents)
        method = METHODS.get(str(found.method.get("name")))
        found.method = with_defaults(method, found.method)
        found.training = with_defaults(TrainingSettings, found.training)
        found.model = {"kind": RecurrentSettings.kind} | found.model
        for name in _IDENTITY:
            difference = _difference(name, getattr(found, name), getattr(self, name))
            if difference is not None:
                raise CheckpointError(
                    f"{output}: it holds another run: {difference}; choose another output directory"
                )
        return found


def with_defaults(cls: type | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were written down, with the defaults of those that are newer.

    Args:
        cls: the dataclass that they are of; None where it is not known.
        values: the settings.
    """
    settings = {} if cls is None else list_settings(cls)
    defaults = {name: s.default for name, s in settings.items() if not s.required and not s.choice}
    return {**json.loads(json.dumps(defaults)), **values}


def recorded(directory: str | Path) -> tuple[Path, dict[str, Any]]:
    """The file that says what the run is that a model is of, and its contents.

    Args:
        directory: the folder of a run, or of a checkpoint in it.

    Raises:
        CheckpointError: where there is no such file, or it is damaged.
    """
    path = Path(directory, RECORD_FILE)
    if not path.exists():
        path = Path(directory).parent / RECORD_FILE
    return path, read_json(path)


def curve_of(history: list[dict[str, Any]]) -> list[Point]:
    """From what was logged to what is known at every evaluation."""
    points: list[Point] = []
    last, total, count = 0, 0.0, 0
    for entry in history:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - last)
            count += entry["step"] - last
            last = entry["step"]
        elif "seconds" in entry:
            metrics = {
                name.removeprefix("eval_"): value
                for name, value in entry.items()
                if name.startswith("eval_")
            }
            point = {"update": entry["step"], "seconds": entry["seconds"]}
            points.append({**point, "loss": total / max(count, 1), **metrics})
            total, count = 0.0, 0
    return points


def _settings(thing: Task | Method) -> dict[str, Any]:
    """The name and the settings of a task or a method."""
    return {"name": thing.name} | to_dict(thing)


def _versions() -> dict[str, str]:
    libraries = ("freerun", "torch", "transformers")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}


def _difference(name: str, there: Any, here: Any) -> str | None:
    """The first setting in which two runs differ."""
    if not isinstance(there, Mapping) or not isinstance(here, Mapping):
        return None if there == here else f"{name} is {there!r} there, and {here!r} here"
    for key in (*here, *there):
        if there.get(key) != here.get(key):
            return _difference(f"{name}.{key}", there.get(key), here.get(key))
    return None
