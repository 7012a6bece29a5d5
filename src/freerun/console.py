"""The terminal that tables and traces are printed to."""

from __future__ import annotations

import rich.console


class Console(rich.console.Console):
    """A rich console that does not highlight numbers, and does not exit on a broken pipe.

    Args:
        stderr: whether to print to the standard error stream.
        quiet: whether to print nothing.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False)

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError again; rich would end the process with status 1."""
        raise BrokenPipeError
