"""The task of a trained model, by its record, and examples to evaluate it on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from freerun.data import Codec, Examples, Sources
from freerun.errors import CheckpointError
from freerun.settings import SettingError, build, list_settings, to_dict
from freerun.tasks import Task, encode_file, find_task, load_data
from freerun.training.record import find_record

Split = Literal["test", "dev"]
_TRAINED_ON = {"data": "a part of it; add --split test", "train": "it; name another file"}
"""Settings of tasks that name what a model was trained on, and what to do instead."""


def load_task(directory: str, data: str | None = None) -> Task:
    """Return the task that the model in a folder was trained on.

    Args:
        directory: the folder of a run, or of a checkpoint in it.
        data: where the data are now, if they were moved.

    Raises:
        CheckpointError: if the folder does not say what the task is.
        SettingError: if `data` is given, and the task comes with its data.
    """
    path, record = find_record(directory)
    name, found = record.task["name"], dict(record.task["settings"])
    try:
        task = find_task(name)
    except SettingError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if data is not None:
        if "data" not in list_settings(task):
            raise SettingError(f"--data does not apply: the task {name} comes with its data")
        found["data"] = data
    try:
        return build(task, found, f"task {name}")
    except SettingError as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_examples(
    checkpoint: str, codec: Codec, split: Split | None, data: str | None
) -> tuple[Task, Examples, str]:
    """Load examples that a model was not trained on.

    Args:
        checkpoint: the folder of the model.
        codec: the codec of the model.
        split: a split of the data of its task; by default the file `data` as a whole, or test.
        data: a file in the format of the task; with `split`, where the data of the task are now.

    Returns:
        The task of the model, the examples, and what to call them.

    Raises:
        CheckpointError: if the folder does not say what the task is.
        SettingError: if the model was trained on that file, or its task comes with its data.
        DataError: if the data cannot be used.
    """
    task = load_task(checkpoint, data if split else None)
    if data is not None and split is None:
        for name, instead in _TRAINED_ON.items():
            known = to_dict(task).get(name)
            if known and _is_same_file(data, known):
                raise SettingError(f"{data}: the model was trained on {instead}")
        return task, encode_file(task, codec, data), data
    loaded = load_data(task, codec)
    return task, loaded.dev if split == "dev" else loaded.test, split or "test"


def read_sources(checkpoint: str, codec: Codec, lines: list[str], name: str) -> Sources:
    """Read lines as the task of a model does; as its codec does, if it was trained without one.

    Args:
        checkpoint: the folder of the model.
        codec: the codec of the model.
        lines: the lines.
        name: the name of their file, for messages.

    Raises:
        DataError: if a line cannot be read.
    """
    try:
        task = load_task(checkpoint)
    except CheckpointError:
        return codec.read(lines, name)
    return task.read_sources(codec, lines, name)


def _is_same_file(one: str, other: str) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
