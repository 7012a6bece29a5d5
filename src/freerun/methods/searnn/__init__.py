"""SEARNN and its parts."""

from freerun.methods.searnn.searnn import SEARNN, Searched

__all__ = ["SEARNN", "Searched"]
