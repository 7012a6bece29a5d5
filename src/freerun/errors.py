"""Errors that several packages raise."""

from __future__ import annotations

import errno

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class WriteError(OSError):
    """Raised if a file cannot be written. The message names it."""

    def __str__(self) -> str:
        """Return the message."""
        message = f"{self.filename}: cannot be written ({self.strerror})"
        if self.errno not in _FULL:
            return message
        return (
            f"{message}; is the disk full? Models that were saved are intact: run the same command "
            "again"
        )


class CheckpointError(ValueError):
    """Raised if a checkpoint cannot be read or written. The message names the file or directory."""


class ProcessError(RuntimeError):
    """Raised if other processes have ended, or runs in them have failed. The message names them."""


class DataError(ValueError):
    """Raised if data cannot be used. The message names file and line, and what is expected."""
