"""Tasks: data to train on, and what is reported of outputs."""

from __future__ import annotations

import dataclasses

from freerun.data import (
    Codec,
    Data,
    DataError,
    Examples,
    MissingExtraError,
    Sources,
    Splits,
    Task,
    read_json,
)
from freerun.data.text import TextCodec, TextCollator, TextExamples, data_of, tokenized
from freerun.imports import address_of, import_object, is_address
from freerun.settings import SettingError, did_you_mean
from freerun.tasks.arithmetic import Arithmetic, ArithmeticCodec
from freerun.tasks.continuation import Continuation
from freerun.tasks.continuation_codec import ContinuationCodec
from freerun.tasks.digits import Digits, DigitsCodec
from freerun.tasks.ocr import Ocr, OcrCodec
from freerun.tasks.pairs import Pairs
from freerun.tasks.spelling import Spelling, SpellingCodec
from freerun.tasks.tagging import Tagging, TaggingCodec
from freerun.tasks.translation import Translation
from freerun.tasks.translation_codec import TranslationCodec

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
        SettingError: where there is none, or it is not a task.
    """
    if name in TASKS:
        return TASKS[name]
    if not is_address(name):
        raise SettingError(f"unknown task {name!r}{did_you_mean(name, TASKS)}")
    found = import_object(name, "task")
    if not isinstance(found, type) or not issubclass(found, Task):
        raise SettingError(f"task {name!r}: it is not a subclass of freerun.tasks.Task")
    if not dataclasses.is_dataclass(found):
        raise SettingError(f"task {name!r}: it is not a dataclass, whose fields are its settings")
    lacking = sorted(found.__abstractmethods__)
    if lacking:
        raise SettingError(f"task {name!r}: it has no {', '.join(lacking)}")
    return found


def task_name(task: type[Task]) -> str:
    """Return what `find_task` finds a task by; its own name, where it has no address."""
    if TASKS.get(task.name) is task:
        return task.name
    return address_of(task) or task.name


_CODECS: dict[str, type[Codec]] = {
    codec.task: codec
    for codec in (
        DigitsCodec,
        SpellingCodec,
        ArithmeticCodec,
        OcrCodec,
        TaggingCodec,
        TranslationCodec,
        TextCodec,
        ContinuationCodec,
    )
}


def load_codec(directory: str) -> Codec:
    """The codec that a checkpoint keeps in `directory`, of whichever task.

    Raises:
        DataError: where there is none, its task is unknown, or a field of it is wrong.
    """
    path, contents = read_json(directory)
    task = contents["task"]
    if task not in _CODECS:
        raise DataError(f"{path}: unknown task {task!r}; known are {', '.join(_CODECS)}")
    return _CODECS[task].from_pretrained(directory)


__all__ = [
    "TASKS",
    "Arithmetic",
    "ArithmeticCodec",
    "Codec",
    "Continuation",
    "ContinuationCodec",
    "Data",
    "DataError",
    "Digits",
    "DigitsCodec",
    "Examples",
    "MissingExtraError",
    "Ocr",
    "OcrCodec",
    "Pairs",
    "Sources",
    "Spelling",
    "SpellingCodec",
    "Splits",
    "Tagging",
    "TaggingCodec",
    "Task",
    "TextCodec",
    "TextCollator",
    "TextExamples",
    "Translation",
    "TranslationCodec",
    "data_of",
    "find_task",
    "load_codec",
    "task_name",
    "tokenized",
]
