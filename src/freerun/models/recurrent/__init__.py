"""A recurrent encoder-decoder with attention."""

from freerun.models.recurrent.config import RecurrentConfig
from freerun.models.recurrent.policy import RecurrentPolicy

__all__ = [
    "RecurrentConfig",
    "RecurrentPolicy",
]
