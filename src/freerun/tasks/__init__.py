"""Tasks: data to train on, and the metrics of outputs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

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
from freerun.data.files import get_suffix
from freerun.data.tables import FORMATS
from freerun.imports import get_class_name, import_dataclass, is_address, make_unknown_error
from freerun.settings import SettingError
from freerun.tasks.arithmetic import Arithmetic
from freerun.tasks.base import Task
from freerun.tasks.continuation import Continuation
from freerun.tasks.digits import Digits
from freerun.tasks.loading import encode_file, load_data, load_file, note_unseen
from freerun.tasks.media import ImageToText, SpeechToText
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
    "image_to_text": ImageToText,
    "speech_to_text": SpeechToText,
}
"""The tasks, by name."""


def find_task(name: str) -> type[Task]:
    """Return the task with a name in `TASKS`, or at an address such as `package.module:Class`.

    Args:
        name: the name, or `package.module:Class`, or `path/to/file.py:Class`.

    Raises:
        SettingError: if there is none, or it is not a task.
    """
    if name in TASKS:
        return TASKS[name]
    if get_suffix(name) in (*FORMATS, ".txt"):
        command = shlex.join(["pairs", "--data", name])
        raise SettingError(f"unknown task {name!r}; to train on this file: {command}")
    if not is_address(name):
        raise make_unknown_error("unknown task", name, TASKS, "MyTask")
    found = import_dataclass(name, "task", Task, ("metrics",))  # type: ignore[type-abstract]
    if isinstance(found.metrics, str) or not found.metrics:
        raise SettingError(
            f"task {name!r}: metrics is {found.metrics!r}; it must be a tuple of names, such as "
            "('exact_match',)"
        )
    recipe: object = found.recipe
    if not isinstance(recipe, Mapping) or not all(isinstance(v, Mapping) for v in recipe.values()):
        raise SettingError(
            f"task {name!r}: recipe is {recipe!r}; it must be a mapping of mappings, such as "
            '{"training": {"updates": 1000}}'
        )
    return found


def get_task_name(task: type[Task]) -> str:
    """Return the text by which `find_task` finds a task; its name if it has no address."""
    return get_class_name(task, TASKS)


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
    "load_file",
    "note_unseen",
]
