"""Which exceptions are errors that a user can correct, and what to say of them."""

from __future__ import annotations

import re

from freerun.errors import CheckpointError, DataError, ProcessError, WriteError
from freerun.imports import locate_error
from freerun.settings import SettingError

_OF_USERS = (SettingError, DataError, CheckpointError, WriteError, ProcessError)
"""Their message suffices."""
_NO_MEMORY = re.compile("out of memory|can't allocate memory|ALLOC_FAILED")
"""What torch says where there is no memory: on a GPU, on a CPU, and in cuBLAS and cuDNN."""


def explain_error(error: BaseException, hint: str = "") -> str | None:
    """Return the message of an error that the user can correct; None for an error of freerun.

    A FloatingPointError is a loss that is not finite: the learning rate was too high.

    Args:
        error: the exception.
        hint: what to add to the message of an exception in the user's own code.
    """
    if isinstance(error, _OF_USERS):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    full = isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))
    if full or isinstance(error, MemoryError):
        less = "a smaller model, a smaller batch_size, or shorter rows need less"
        return f"out of memory; {less} ({error!s:.200})"
    place = locate_error(error) if isinstance(error, Exception) else None
    if place is not None:
        return f"{place}{hint}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, (FloatingPointError, OSError)) else None
