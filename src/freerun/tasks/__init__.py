"""Tasks: data to train on, and what is reported of outputs."""

from __future__ import annotations

from freerun.data import (
    Codec,
    Data,
    DataError,
    Examples,
    FactorCodec,
    FeatureCodec,
    MissingExtraError,
    Sources,
    Splits,
    TextCodec,
    TextCollator,
    TextExamples,
    load_codec,
)
from freerun.imports import get_address, import_object, is_address
from freerun.settings import SettingError, did_you_mean
from freerun.tasks.arithmetic import Arithmetic
from freerun.tasks.base import Task, encode_file, load_data
from freerun.tasks.continuation import Continuation
from freerun.tasks.digits import Digits
from freerun.tasks.ocr import Ocr
from freerun.tasks.pairs import Pairs
from freerun.tasks.spelling import Spelling
from freerun.tasks.tagging import Tagging
from freerun.tasks.translation import Translation

TASKS: dict[str, type[Task]] = {
    "digits": Digits,
    "spelling": Spelling,
    "arithmetic": Arithmetic,
    "ocr": Ocr,
    "tagging": Tagging,
    "translation": Translation,
    "pairs": Pairs,
    "text": Continuation,
}
"""The tasks, by name."""


def find_task(name: str) -> type[Task]:
    """Return the task of a name in `TASKS`, or of an address such as `package.module:Class`.

    Args:
        name: the name, or `package.module:Class`, or `path/to/file.py:Class`.

    Raises:
        SettingError: if there is none, or it is not a task.
    """
    if name in TASKS:
        return TASKS[name]
    if not is_address(name):
        hint = f"; add its class, as in {name}:MyTask" if name.endswith(".py") else ""
        raise SettingError(f"unknown task {name!r}{hint or did_you_mean(name, TASKS)}")
    found = import_object(name, "task")
    if not isinstance(found, type) or not issubclass(found, Task):
        raise SettingError(f"task {name!r}: it is not a subclass of freerun.tasks.Task")
    if "__dataclass_fields__" not in vars(found):
        raise SettingError(f"task {name!r}: it is not a dataclass, whose fields are its settings")
    lacking = sorted(found.__abstractmethods__ | ({"metrics"} - {*dir(found)}))
    if lacking:
        raise SettingError(f"task {name!r}: it has no {', '.join(lacking)}")
    return found


def get_task_name(task: type[Task]) -> str:
    """Return what `find_task` finds a task by; its own name, if it has no address."""
    if TASKS.get(task.name) is task:
        return task.name
    return get_address(task) or task.name


__all__ = [
    "TASKS",
    "Arithmetic",
    "Codec",
    "Continuation",
    "Data",
    "DataError",
    "Digits",
    "Examples",
    "FactorCodec",
    "FeatureCodec",
    "MissingExtraError",
    "Ocr",
    "Pairs",
    "Sources",
    "Spelling",
    "Splits",
    "Tagging",
    "Task",
    "TextCodec",
    "TextCollator",
    "TextExamples",
    "Translation",
    "encode_file",
    "find_task",
    "get_task_name",
    "load_codec",
    "load_data",
]
