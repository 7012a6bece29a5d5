"""A recurrent encoder-decoder with attention: the one model that is our own."""

from freerun.policies.recurrent.config import RecurrentConfig
from freerun.policies.recurrent.model import RecurrentPolicy

__all__ = ["RecurrentConfig", "RecurrentPolicy"]
