"""Options that `freerun evaluate` and `freerun diagnose` share, and the file of figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from freerun.cli.options import SettingsCommand, UserSettings
from freerun.digests import is_part_of_model
from freerun.evaluation import Decoding
from freerun.files import format_json, write
from freerun.settings import SettingError, to_dict
from freerun.tasks import Pairs
from freerun.training.tasks import READING, Measured, Split

_PREFIX = "task."


@dataclass(frozen=True)
class CheckpointOptions:
    """A trained model and how much of the data it is given at a time.

    Args:
        checkpoint: the folder of a trained model.
        batch_size: the number of examples that are decoded together.
        language: the language of sounds, such as en, for a multilingual Whisper that freerun did
            not train.
    """

    checkpoint: str
    batch_size: int = 256
    language: str | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")


@dataclass(frozen=True)
class MeasureOptions(CheckpointOptions):
    """A trained model, and the examples to measure it on.

    Args:
        checkpoint: the folder of a trained model; with --data, it may be any Hugging Face model.
        split: the split of the task's data to measure on, `test` or `dev`; by default test
            to evaluate on, and dev to diagnose on.
        data: a file in the format of the task to measure on as a whole; with --split, where the
            data of the task are now. For a model that freerun did not train, a file of rows in the
            format of the task pairs, or of text; or a folder of images or sounds with their texts.
        json: a file to write the figures to.
    """

    split: Split | None = None
    data: str | None = None
    json: str | None = None

    def write(self, found: Measured, decoding: Decoding, figures: Mapping[str, Any]) -> None:
        """Write figures, and what was measured, to the file `json`, if there is one."""
        if self.json is None:
            return
        contents = {
            "task": found.task.name,
            "checkpoint": self.checkpoint,
            "examples_of": found.name,
            "examples": len(found.examples),
            "decoding": to_dict(decoding),
            **figures,
        }
        write(self.json, format_json(contents))


class MeasureCommand(SettingsCommand):
    """A command that measures a trained model on examples.

    Attributes:
        own: the dataclass of the options of the command itself.
    """

    own: ClassVar[type[MeasureOptions]]

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(self.own, positional=["checkpoint"])
        self.add(Decoding, "Decoding")
        section = "Rows of --data, for a model that freerun did not train"
        self.add(Pairs, section, prefix=_PREFIX, only=READING)


def list_reading(settings: UserSettings) -> dict[str, Any]:
    """Return the settings of `Pairs` that the user gave."""
    found = {name: settings.values.get(_PREFIX + name) for name in READING}
    return {name: value for name, value in found.items() if value is not None}


def check_output(flag: str, path: str | None) -> None:
    """Check that a file can be written to, before anything is computed.

    Raises:
        SettingError: if its folder does not exist, or it is a folder or part of a model.
    """
    if path is None:
        return
    # A link to a file that does not exist yet is followed.
    folder = Path(os.path.realpath(path) if Path(path).is_symlink() else path).parent
    if not folder.is_dir():
        raise SettingError(f"{flag} is {path!r}; there is no folder {folder}")
    if Path(path).is_dir():
        raise SettingError(f"{flag} is {path!r}, which is a folder; name a file in it")
    if is_part_of_model(Path(os.path.realpath(path))):
        raise SettingError(f"{flag} is {path!r}, a file of a model; name another file")
