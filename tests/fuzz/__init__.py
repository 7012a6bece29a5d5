"""Feeds freerun damaged and hostile input: `python -m tests.fuzz --help`."""
