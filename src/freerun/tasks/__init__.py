"""Tasks: data to train on, and what is reported of outputs."""

from __future__ import annotations

from freerun.tasks.arithmetic import Arithmetic
from freerun.tasks.arithmetic_codec import ArithmeticCodec
from freerun.tasks.base import Codec, Data, DataError, Examples, Sources, Splits, Task
from freerun.tasks.codec import read_json
from freerun.tasks.continuation import Continuation
from freerun.tasks.continuation_codec import ContinuationCodec
from freerun.tasks.digits import Digits, DigitsCodec
from freerun.tasks.extras import MissingExtraError
from freerun.tasks.ocr import Ocr, OcrCodec
from freerun.tasks.pairs import Pairs
from freerun.tasks.spelling import Spelling
from freerun.tasks.spelling_codec import SpellingCodec
from freerun.tasks.tagging import Tagging
from freerun.tasks.tagging_codec import TaggingCodec
from freerun.tasks.tokenized import TextCodec, TextCollator, TextExamples, data_of, tokenized
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
    "load_codec",
    "tokenized",
]
