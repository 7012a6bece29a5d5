"""Tasks: data to train on, and what is reported of outputs."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

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
    read_json,
    saved,
)
from freerun.imports import address_of, import_object, is_address
from freerun.settings import SettingError, did_you_mean
from freerun.tasks.arithmetic import Arithmetic, ArithmeticCodec
from freerun.tasks.base import Task, load_data
from freerun.tasks.continuation import Continuation
from freerun.tasks.continuation_codec import ContinuationCodec
from freerun.tasks.digits import Digits, DigitsCodec
from freerun.tasks.ocr import Ocr, OcrCodec
from freerun.tasks.pairs import Pairs
from freerun.tasks.spelling import Spelling
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
        ArithmeticCodec,
        OcrCodec,
        TaggingCodec,
        TranslationCodec,
        ContinuationCodec,
    )
}


_KINDS: dict[str, type[Codec]] = {
    codec.kind: codec for codec in (TextCodec, FeatureCodec, FactorCodec)
}


def load_codec(directory: str) -> Codec:
    """The codec that a checkpoint keeps in `directory`, of whichever kind.

    Raises:
        DataError: where there is none, its kind is unknown, or a field of it is wrong.
    """
    own = None
    with suppress(DataError):
        own = _CODECS.get(saved.read_json(directory)[1]["task"])
    if own is not None:
        return own.from_pretrained(directory)
    path, contents = read_json(directory)
    kind = contents["kind"]
    if kind not in _KINDS:
        raise DataError(f"{path}: unknown kind {kind!r}; known are {', '.join(_KINDS)}")
    return _KINDS[kind].from_pretrained(directory)


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
    "FactorCodec",
    "FeatureCodec",
    "MissingExtraError",
    "Ocr",
    "OcrCodec",
    "Pairs",
    "Sources",
    "Spelling",
    "Splits",
    "Tagging",
    "TaggingCodec",
    "Task",
    "TextCodec",
    "TextCollator",
    "TextExamples",
    "Translation",
    "TranslationCodec",
    "find_task",
    "load_codec",
    "load_data",
    "task_name",
]
