"""Codecs of tasks that have one of their own. They go, task by task."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from freerun.data.base import DataError
from freerun.data.codec import CODEC_FILE, Codec
from freerun.data.files import read_bytes, write_text
from freerun.vocabulary import UNKNOWN

_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
}


@dataclasses.dataclass(frozen=True)
class SavedCodec(Codec):
    """A codec whose fields are all that there is to keep: numbers, text, and lists of them.

    Args:
        backspace: whether outputs may withdraw tokens; `target` is to have that action then.
    """

    task: ClassVar[str]
    backspace: bool = dataclasses.field(default=False, kw_only=True)

    def encode(self, rows, name="the data"):  # type: ignore[no-untyped-def]
        """Not of these."""
        raise NotImplementedError

    encode_sources = encode

    def decode(self, tokens: Sequence[int], unknown: str = UNKNOWN) -> str:
        """The text of an output."""
        return self.write(tokens, ())

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        """The text of an output."""
        raise NotImplementedError

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an output."""
        return self.write(tokens, ())

    def evaluation(self, path):  # type: ignore[no-untyped-def]
        """Examples of a file."""
        raise NotImplementedError

    def with_backspace(self) -> Codec:
        """The same with an action that withdraws the last token; itself, where it has one.

        Raises:
            ValueError: where outputs have no eos, or this kind of codec knows no backspace.
        """
        if self.target.backspace is None and self.target.eos is not None:
            found = dataclasses.replace(self, backspace=True)
            if found.target.backspace is not None:
                return found
        return super().with_backspace()

    def save_pretrained(self, directory: str) -> None:
        """Write codec.json into `directory`, as a whole or not at all."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        contents = {"task": self.task, **dataclasses.asdict(self)}
        text = json.dumps(contents, ensure_ascii=False, indent=1)
        write_text(str(Path(directory, CODEC_FILE)), text + "\n")

    @classmethod
    def from_pretrained(cls, directory: str) -> SavedCodec:
        """The codec that was saved in `directory`.

        Raises:
            DataError: where there is none, it is of another task, or a field is missing, unknown or
                of the wrong type.
        """
        path, settings = read_fields(cls, directory)
        try:
            codec = cls(**settings)
            codec.target  # noqa: B018  (symbols that come twice are refused here)
            if codec.backspace:
                codec.with_backspace()  # refused where this kind has none
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        return codec


def read_fields(
    cls: type[SavedCodec], directory: str, skip: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """The path of codec.json in `directory`, and what it holds: the fields of a dataclass.

    Args:
        cls: the dataclass.
        directory: the folder.
        skip: fields that are kept elsewhere.

    Raises:
        DataError: where there is no such file, it is of another task, or a field is missing,
            unknown or of the wrong type.
    """
    path, contents = read_json(directory)
    if contents["task"] != cls.task:
        raise DataError(f"{path}: it is of the task {contents['task']!r}, not {cls.task!r}")
    fields: Any = cls
    kept = [field for field in dataclasses.fields(fields) if field.name not in skip]
    kept.sort(key=lambda field: field.kw_only is True)
    names = [field.name for field in kept]
    newer = [field.name for field in kept if field.kw_only]  # than files that lack them
    for name in contents:
        if name not in (*names, "task"):
            raise DataError(f"{path}: unknown field {name!r}; known are {', '.join(names)}")
    types = get_type_hints(cls)
    settings = {}
    for name in names:
        if name not in contents:
            if name in newer:
                continue
            raise DataError(f"{path}: the field {name!r} is missing")
        settings[name] = _typed(contents[name], types[name], f"{path}: the field {name!r}")
    return path, settings


def read_json(directory: str) -> tuple[str, dict[str, Any]]:
    """The path and the contents of codec.json in `directory`, which name a task.

    Raises:
        DataError: where there is no such file, or it is no JSON object that names a task.
    """
    path = str(Path(directory, CODEC_FILE))
    try:
        contents = json.loads(read_bytes(path))
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(contents, dict) or not isinstance(contents.get("task"), str):
        raise DataError(f"{path}: the field 'task' is missing")
    return path, contents


def _typed(value: Any, kind: Any, where: str) -> Any:
    """`value` as a `kind`, a list as a tuple."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise DataError(f"{where} is {value!r:.40}; it must be a list")
        return tuple(_typed(item, get_args(kind)[0], where) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is Literal:
        kind = str  # which texts will do, the codec says
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if type(value) not in kinds:
        wanted = " or ".join(_KINDS[each] for each in kinds)
        raise DataError(f"{where} is {value!r:.40}; it must be {wanted}")
    return value
