"""The examples that a trained model is looked at on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from freerun.cli.checkpoint import task_of
from freerun.data import Codec, Examples, Task
from freerun.data.text import data_of
from freerun.settings import SettingError, to_dict

Split = Literal["test", "dev"]
TRAINED_ON = {"data": "a part of it; add --split test", "train": "it; name another file"}
"""Settings of tasks that name what a model was trained on, and what to do instead."""


def examples_of(
    checkpoint: str, codec: Codec, split: Split | None, data: str | None
) -> tuple[Task, Examples, str]:
    """The task of a model, examples that it was not trained on, and what to call them.

    Args:
        checkpoint: the folder of the model.
        codec: what it reads and writes.
        split: a part of the task's data; left out, `data` as a whole, or test.
        data: a file of the task's format; with `split`, where the task's data are now.

    Raises:
        CheckpointError: where the folder does not say what the task is.
        SettingError: where the model was trained on that file, or its task needs no data.
        DataError: where the data cannot be used.
    """
    task = task_of(checkpoint, data if split else None)
    if data is not None and split is None:
        for name, rest in TRAINED_ON.items():
            known = to_dict(task).get(name)
            if known and _same(data, known):
                raise SettingError(f"{data}: the model was trained on {rest}")
        return task, task.evaluation(codec, data), data
    loaded = data_of(task, codec)
    return task, loaded.dev if split == "dev" else loaded.test, split or "test"


def check_folder(flag: str, path: str | None) -> None:
    """Check that the folder is there that a file is to be written to.

    Raises:
        SettingError: where it is not.
    """
    if path is not None and not Path(path).parent.is_dir():
        raise SettingError(f"{flag} is {path!r}; there is no folder {Path(path).parent}")


def _same(one: str, other: str) -> bool:
    """Whether two paths lead to the same file."""
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
