"""Libraries that only some tasks need."""

from __future__ import annotations

import importlib
from types import ModuleType

from freerun.data.base import DataError


class MissingExtraError(DataError, ImportError):
    """A library that is not installed: the message says how to install it."""


def import_extra(module: str, name: str, purpose: str) -> ModuleType:
    """Import a module of an optional library.

    Args:
        module: the module to import.
        name: the extra of freerun that installs it.
        purpose: what needs it, to begin the message with.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        library = module.partition(".")[0]
        message = f"{purpose} needs {library}, which is missing: pip install freerun[{name}]"
        raise MissingExtraError(message) from None
