"""What a comparison is: the plan that its folder holds, and that a second start must agree with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freerun.data import Task
from freerun.data.files import write_text
from freerun.errors import CheckpointError, WriteError
from freerun.methods import METHODS, Method
from freerun.models.settings import ModelSettings, RecurrentSettings
from freerun.settings import format_value, to_dict
from freerun.study.specs import folder_of
from freerun.training import TrainingSettings
from freerun.training.folders import no_file
from freerun.training.record import with_defaults

PLAN_FILE = "comparison.json"


@dataclass(frozen=True)
class Plan:
    """Every method with every seed, on one task, alike in all else.

    Args:
        task: the task.
        methods: the methods, by the names of their variants.
        seeds: the seeds of the runs of each.
        model: what the model is made of.
        training: how it is trained; its seed is not looked at.
    """

    task: Task
    methods: Mapping[str, Method]
    seeds: tuple[int, ...]
    model: ModelSettings
    training: TrainingSettings

    def runs(self) -> Iterator[tuple[str, int, Path]]:
        """Variant, seed and folder of every run: seed by seed, so that all advance alike."""
        for seed in self.seeds:
            for name in self.methods:
                yield name, seed, Path(folder_of(name), f"seed-{seed}")

    @property
    def base(self) -> str | None:
        """The variant that others are compared to: the one called mle, else the first MLE."""
        of_mle = [name for name, method in self.methods.items() if method.name == "mle"]
        return "mle" if "mle" in of_mle else next(iter(of_mle), None)

    def record(self) -> dict[str, Any]:
        """The plan as it is written down, with the digests of the data files."""
        training = to_dict(self.training)
        del training["seed"]
        methods = {
            name: {"method": method.name, "settings": to_dict(method)}
            for name, method in self.methods.items()
        }
        settings = {
            "task": {
                "name": self.task.name,
                "settings": to_dict(self.task),
                "files": self.files(),
            },
            "model": self.model.record(),
            "training": training,
            "methods": methods,
            "seeds": list(self.seeds),
        }
        found: dict[str, Any] = json.loads(json.dumps(settings))
        return found

    def files(self) -> dict[str, str]:
        """The SHA-256 of every data file that a setting of the task names."""
        named = [value for value in to_dict(self.task).values() if isinstance(value, str)]
        return {name: digest(Path(name)) for name in named if Path(name).exists()}

    def check(self, output: Path) -> None:
        """See that `output` holds this comparison, or nothing.

        Raises:
            CheckpointError: where it holds another comparison, or something else.
        """
        path = output / PLAN_FILE
        no_file(output)
        if not path.exists():
            if output.exists() and any(output.iterdir()):
                raise CheckpointError(
                    f"{output}: it holds {_first(output)} but no comparison; "
                    "choose another output directory"
                )
            return
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path}: not JSON ({error})") from None
        _bring_up(there)
        differences = list(_differences(there, self.record()))
        if differences:
            raise CheckpointError(
                f"{output}: it holds another comparison: {'; '.join(differences[:3])}; "
                "choose another output directory"
            )

    def claim(self, output: Path) -> None:
        """Write the plan into `output`, which is made where it is missing.

        Raises:
            CheckpointError: where it cannot be written.
        """
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{output}: cannot write there ({error.strerror})") from None
        try:
            write_text(str(output / PLAN_FILE), json.dumps(self.record(), indent=1) + "\n")
        except WriteError as error:
            raise CheckpointError(str(error)) from None


def digest(path: Path) -> str:
    """The SHA-256 of a file; of a folder, that of the names and digests of all files in it."""
    found = hashlib.sha256()
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.is_file():
                found.update(f"{inner.relative_to(path).as_posix()} {digest(inner)}\n".encode())
        return found.hexdigest()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _bring_up(record: dict[str, Any]) -> None:
    """Give a plan that was written down the defaults of settings that are newer."""
    record["model"] = {"kind": RecurrentSettings.kind} | record.get("model", {})
    training = with_defaults(TrainingSettings, record.get("training", {}))
    record["training"] = {name: value for name, value in training.items() if name != "seed"}
    for variant in record.get("methods", {}).values():
        method = METHODS.get(variant.get("method"))
        variant["settings"] = with_defaults(method, variant.get("settings", {}))


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """What differs between two plans, in words."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**here, **there}:
            inner = f"{name}.{key}" if name else key
            if key not in here:
                yield f"it has {inner}, which is not asked for"
            elif key not in there:
                yield f"it has no {inner}"
            else:
                yield from _differences(there[key], here[key], inner)
    elif there != here:
        yield f"{name} is {format_value(there)} there, and {format_value(here)} here"


def _first(folder: Path) -> str:
    return min(path.name for path in folder.iterdir())
