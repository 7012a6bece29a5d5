"""The errors that a user can put right."""

from __future__ import annotations

from freerun.cli.options import UsageError
from freerun.data import DataError
from freerun.errors import CheckpointError, WriteError
from freerun.report import MissingPlotsError
from freerun.settings import SettingError

MISTAKES = (
    UsageError,
    SettingError,
    DataError,
    CheckpointError,
    MissingPlotsError,
    FloatingPointError,
    OSError,
)
"""FloatingPointError is a loss that is no longer a number: the learning rate was too high."""


def explain(error: Exception) -> str:
    """The message of an error, for a person."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, WriteError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)
