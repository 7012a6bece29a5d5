"""Errors that several packages raise."""

from __future__ import annotations

import errno

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class WriteError(OSError):
    """A file that cannot be written: the message names it."""

    def __str__(self) -> str:
        """The message."""
        message = f"{self.filename}: cannot be written ({self.strerror})"
        if self.errno not in _FULL:
            return message
        return (
            f"{message}; is the disk full? Models that were saved are intact: run the same command "
            "again"
        )


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written: the message names the file or directory."""


class ProcessError(RuntimeError):
    """Another process of a run that has ended: the message names its rank."""


class DataError(ValueError):
    """Data that cannot be used: the message names the file, the line and what would be right."""
