"""The terminal that tables and traces are printed to."""

from __future__ import annotations

import rich.console


class Console(rich.console.Console):
    """A console of rich that neither highlights numbers nor exits when its reader is gone.

    Args:
        stderr: Whether it is the standard error stream.
        quiet: Whether nothing is printed.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False)

    def on_broken_pipe(self) -> None:
        """Raise the error that this is called for; in `rich`, it ends the process with status 1."""
        raise BrokenPipeError
