"""A recurrent encoder-decoder with attention: the one model that is our own."""

from freerun.models.recurrent.config import RecurrentConfig
from freerun.models.recurrent.policy import RecurrentPolicy

__all__ = [
    "RecurrentConfig",
    "RecurrentPolicy",
]
