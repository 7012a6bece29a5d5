"""Data: examples, codecs, files, columns and splits."""

from freerun.data.base import Codec, Data, DataError, Examples, Sources, Splits, Task
from freerun.data.codec import read_json
from freerun.data.extras import MissingExtraError

__all__ = [
    "Codec",
    "Data",
    "DataError",
    "Examples",
    "MissingExtraError",
    "Sources",
    "Splits",
    "Task",
    "read_json",
]
