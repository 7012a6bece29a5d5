"""The settings of models that a user chooses; the rest follows from the task."""

from freerun.policies.settings.base import ModelSettings
from freerun.policies.settings.recurrent import RecurrentSettings

__all__ = ["ModelSettings", "RecurrentSettings"]
