"""Errors that several rooms raise."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written: the message names the file or directory."""
