"""The record of a run or a comparison: its settings, its environment and its results."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from inspect import isfunction
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import torch

from freerun.data import Codec, Data, Examples
from freerun.digests import compute_digest
from freerun.errors import CheckpointError
from freerun.files import check_json, format_json, read_json, restore_nan, write
from freerun.imports import get_address
from freerun.methods import Method, get_method_name
from freerun.models.settings import ModelSettings
from freerun.settings import format_value, to_dict
from freerun.tasks import get_task_name
from freerun.tasks.base import Task
from freerun.training.settings import TrainingSettings

RECORD_FILE = "freerun.json"
_IDENTITY = ("task", "methods", "model", "training", "seeds", "init", "examples", "codec")
"""The fields that must agree for two records to be of the same runs."""
_OWN_DIGEST = "sha256"
"""The field of the file, not of the record, with the SHA-256 of all others."""
_BATCH = 1024
"""The number of examples that are read together to compute their digest."""
_NOT_DIGESTED = "tokenizer_config.json"
"""This file of a tokenizer contains versions and paths, not only tokens."""

Point = dict[str, int | float]
"""The values of an evaluation, by name."""


class TaskEntry(TypedDict):
    """The task of a record: see `Record`."""

    name: str
    settings: dict[str, Any]
    files: dict[str, str]


class MethodEntry(TypedDict):
    """A variant of a record: see `Record`."""

    method: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a run.

    Attributes:
        updates: updates done.
        seconds: seconds of training, without evaluating and saving.
        seconds_per_update: the mean time of an update, without the first few.
        best_update: the update with the best metric on dev.
        kept_update: the update of the saved model.
        dev: the metrics of the saved model on dev.
        curve: for every evaluation its `update`, the `seconds` of training so far, the mean
            training `loss` since the one before, and the metrics on dev by their names.
    """

    updates: int
    seconds: float
    seconds_per_update: float
    best_update: int | None
    kept_update: int
    dev: dict[str, float]
    curve: list[Point] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Record:
    """The record of one run, or of a comparison of several methods and seeds.

    Attributes:
        task: `name` and `settings` of the task, and `files`, the SHA-256 of every data file or
            folder that a setting names.
        methods: for every variant, by its name, its `method` and `settings`.
        model: the kind and the settings of the model.
        training: the settings of training, without the seed.
        seeds: the seeds.
        init: the checkpoint that training started from, if any.
        examples: the numbers of examples in train, dev and test; empty before data are read.
        data: the SHA-256 of these examples, as the model reads them; empty before data are read.
        codec: the SHA-256 of codec and tokenizers; None before data are read.
        versions: the versions of Python and libraries, the platform, the device and the number of
            threads.
        horizon: the number of updates that the schedules of a run are fitted to.
        results: the results of a run; None until it is finished.
    """

    task: TaskEntry
    methods: dict[str, MethodEntry]
    model: dict[str, Any]
    training: dict[str, Any]
    seeds: list[int]
    init: str | None = None
    examples: dict[str, int] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    codec: str | None = None
    versions: dict[str, Any] = field(default_factory=lambda: find_versions())
    horizon: int | None = None
    results: Results | None = None

    @classmethod
    def build(
        cls,
        task: Task,
        methods: Mapping[str, Method],
        model: ModelSettings,
        training: TrainingSettings,
        *,
        seeds: Sequence[int],
        init: Path | None = None,
        data: Data | None = None,
    ) -> Record:
        """Build the record of runs that have not begun.

        Args:
            task: the task.
            methods: the methods, by the names of their variants.
            model: the settings of the model.
            training: the settings of training; its seed is replaced by `seeds`.
            seeds: the seeds of the runs of each method.
            init: the checkpoint that training starts from, if any.
            data: the data of the task, if they have been read.
        """
        settings = to_dict(task)
        named = (settings.get(name) for name in task.data_settings)
        paths = [name for name in named if name and isinstance(name, str) and Path(name).exists()]
        files = {name: digest_path(Path(name)) for name in paths}
        record = cls(
            task={"name": get_task_name(type(task)), "settings": settings, "files": files},
            methods={name: describe_method(method) for name, method in methods.items()},
            model=model.record(),
            training={k: v for k, v in to_dict(training).items() if k != "seed"},
            seeds=list(seeds),
            init=None if init is None else str(init),
        )
        if data is not None:
            sizes = {"train": len(data.train), "dev": len(data.dev), "test": len(data.test)}
            digests = {name: digest_examples(getattr(data, name)) for name in sizes}
            codec = digest_codec(data.codec)
            record = replace(record, examples=sizes, data=digests, codec=codec)
        return record.as_read()

    def as_read(self) -> Record:
        """Return the record as it is read from its file: with lists for tuples."""
        return Record(**json.loads(self.to_json()))

    def flatten(self) -> dict[str, Any]:
        """Return the settings of a run by their names on the command line, for trackers."""
        (method,) = self.methods.values()
        groups = {
            "task": self.task["settings"],
            "method": method["settings"],
            "model": self.model,
            "training": self.training,
        }
        names = {"task": self.task["name"], "method": method["method"], "seed": self.seeds[0]}
        return {**names, **_flatten(groups)}

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished."""
        return self.results is not None

    def to_json(self) -> str:
        """Return the record as JSON."""
        return format_json(asdict(self))

    def write(self, path: Path) -> None:
        """Write the record to a file atomically, with a digest of itself.

        Raises:
            WriteError: if it cannot be written.
        """
        contents = json.loads(self.to_json())
        write(path, format_json({_OWN_DIGEST: _digest_json(contents), **contents}))

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record from a file.

        Raises:
            CheckpointError: if there is no such file, or it is damaged or of an older version.
        """
        contents = read_json(path)
        digest = contents.pop(_OWN_DIGEST, None)
        names = [one.name for one in fields(cls)]
        missing = [name for name in names if name not in contents]
        unknown = sorted(contents.keys() - set(names))
        if missing or unknown:
            fault = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is unknown"
            raise CheckpointError(
                f"{path}: the field {fault}; was it written by another version of freerun? Train "
                "again"
            )
        if digest is not None and digest != _digest_json(contents):
            raise CheckpointError(
                f"{path}: it was damaged or changed after it was written: its contents do not "
                f"match {_OWN_DIGEST!r}; remove that field if the change was intended"
            )
        if isinstance(found := contents["results"], dict):
            found |= {name: restore_nan(found[name]) for name in ("dev", "curve") if name in found}
        for name, kind in get_type_hints(cls).items():
            check_json(contents[name], kind, f"{path}: {name}")
        check_json(contents["model"].get("kind"), str, f"{path}: model.kind")
        results = contents.pop("results")
        return cls(**contents, results=None if results is None else Results(**results))

    def check(self, there: Record, output: Path, kind: str) -> None:
        """Check that the record in a folder describes the same runs as this one.

        Raises:
            CheckpointError: if it does not. The message names up to three differences.
        """
        differences = list(compare_records(there, self))
        if differences:
            raise CheckpointError(
                f"{output}: it holds another {kind}: {'; '.join(differences[:3])}; "
                "choose another output directory"
            )


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings in nested mappings by their paths, such as `method.k`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def describe_method(method: Method) -> MethodEntry:
    """Describe a method; functions among its settings, such as a cost, by their address."""
    settings = {
        name: (get_address(value) or value) if isfunction(value) else value
        for name, value in to_dict(method).items()
    }
    return {"method": get_method_name(type(method)), "settings": settings}


def compare_records(there: Record, here: Record) -> Iterator[str]:
    """Describe in words how the settings of two records differ.

    Args:
        there: the record in the folder.
        here: the record of the requested run.
    """
    same = True
    for name in _IDENTITY:
        for difference in _compare(getattr(there, name), getattr(here, name), name):
            same = False
            yield difference
    for name in there.data.keys() & here.data.keys():
        if same and there.data[name] != here.data[name]:
            yield f"the examples of {name} are not those of here"


def _compare(there: object, here: object, name: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**here, **there}:
            inner = f"{name}.{key}"
            if key not in here:
                yield f"it has {inner}, which was not requested"
            elif key not in there:
                yield f"it has no {inner}"
            else:
                yield from _compare(there[key], here[key], inner)
    elif there != here:
        yield f"{name} is {format_value(there)} there, and {format_value(here)} here"


def find_record(directory: str | Path) -> tuple[Path, Record]:
    """Find and read the record of the run that produced a model.

    Args:
        directory: the folder of a run, or of a checkpoint in it.

    Returns:
        The path of the record's file, and the record.

    Raises:
        CheckpointError: if there is no such file, or it is damaged or of an older version.
    """
    path = _find_path(directory)
    return path, Record.read(path)


def has_record(directory: str | Path) -> bool:
    """Return whether a folder is that of a run, or of a checkpoint in it.

    Args:
        directory: the folder.
    """
    return _find_path(directory).exists()


def _find_path(directory: str | Path) -> Path:
    path = Path(directory, RECORD_FILE)
    return path if path.exists() else Path(directory).parent / RECORD_FILE


def build_curve(history: list[dict[str, Any]]) -> list[Point]:
    """Convert a log to a list with one entry for each evaluation.

    Args:
        history: the log of transformers' Trainer, in which losses and evaluations alternate.
    """
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


def _digest_json(contents: dict[str, Any]) -> str:
    # As written, also by versions that wrote NaN.
    text = json.dumps(contents, indent=1, ensure_ascii=False, default=str) + "\n"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def digest_path(path: Path) -> str:
    """Compute the SHA-256 of a file; of a folder, that of the names and digests of its files."""
    if not path.is_dir():
        return compute_digest(path)
    found = hashlib.sha256()
    for inner in sorted(path.rglob("*")):
        if inner.is_file() and inner.name != _NOT_DIGESTED:
            name = inner.relative_to(path).as_posix()
            found.update(f"{name} {compute_digest(inner)}\n".encode())
    return found.hexdigest()


def digest_examples(examples: Examples) -> str:
    """Compute the SHA-256 of all examples, with the noise of the first epoch."""
    found = hashlib.sha256()
    for start in range(0, len(examples), _BATCH):
        batch = examples.batch(range(start, min(start + _BATCH, len(examples))))
        for tensor in batch.tensors().values():
            found.update(str(tuple(tensor.shape)).encode())
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def digest_codec(codec: Codec) -> str:
    """Compute the SHA-256 of the saved files of a codec and its tokenizers."""
    with tempfile.TemporaryDirectory() as folder:
        codec.save_pretrained(folder)
        return digest_path(Path(folder))


def find_versions() -> dict[str, Any]:
    """Return the versions of Python and libraries, the platform, the device and the threads."""
    libraries = ("freerun", "torch", "transformers", "numpy")
    gpu = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "threads": torch.get_num_threads(),
    }
