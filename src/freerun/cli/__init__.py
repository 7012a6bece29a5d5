"""The command line."""

from freerun.cli.main import main

__all__ = ["main"]
