"""freerun trains sequence models for the way they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freerun.study import compare
    from freerun.training.prediction import load

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "load"]


def __getattr__(name: str) -> Any:
    """Import functions on first use, so that losses and costs alone are quick to import."""
    if name == "compare":
        from freerun.study import compare

        return compare
    if name == "load":
        from freerun.training.prediction import load

        return load
    raise AttributeError(f"module 'freerun' has no attribute {name!r}")
