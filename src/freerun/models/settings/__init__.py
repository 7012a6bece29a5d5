"""The settings of models that a user chooses; everything else follows from the task."""

from freerun.models.settings.base import ModelSettings, describe_difference, follow_backspace
from freerun.models.settings.pretrained import (
    KINDS,
    SCRATCH,
    PretrainedSettings,
    kind_of,
    settings_from,
)
from freerun.models.settings.scratch import CausalSettings, RecurrentSettings, Seq2SeqSettings

__all__ = [
    "KINDS",
    "SCRATCH",
    "CausalSettings",
    "ModelSettings",
    "PretrainedSettings",
    "RecurrentSettings",
    "Seq2SeqSettings",
    "describe_difference",
    "follow_backspace",
    "kind_of",
    "settings_from",
]
