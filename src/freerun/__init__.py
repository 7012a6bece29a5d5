"""freerun trains sequence models for the way they run."""

__version__ = "0.1.0"
