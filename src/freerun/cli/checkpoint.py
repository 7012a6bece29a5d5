"""What a trained model's folder says of its task."""

from __future__ import annotations

from freerun.data import Task
from freerun.errors import CheckpointError
from freerun.settings import SettingError, build, did_you_mean, list_settings
from freerun.tasks import TASKS
from freerun.training.record import recorded


def task_of(directory: str, data: str | None = None) -> Task:
    """The task that the model in `directory` was trained on.

    Args:
        directory: the folder of a run, or of a checkpoint in it.
        data: where the data is now; left out, where it was.

    Raises:
        CheckpointError: where the folder does not say.
        SettingError: where the task needs no data.
    """
    path, record = recorded(directory)
    found = dict(record.get("task") or {})
    name = found.pop("name", None)
    if name not in TASKS:
        raise CheckpointError(f"{path}: unknown task {name!r}{did_you_mean(str(name), TASKS)}")
    if data is not None:
        if "data" not in list_settings(TASKS[name]):
            raise SettingError(f"--data is {data!r}, but the task {name} needs none")
        found["data"] = data
    try:
        return build(TASKS[name], found, f"task {name}")
    except SettingError as error:
        raise CheckpointError(f"{path}: {error}") from None
