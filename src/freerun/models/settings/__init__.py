"""The settings of models that a user chooses; everything else is determined by the task."""

from freerun.models.settings.base import ModelSettings, describe_difference, match_backspace
from freerun.models.settings.pretrained import (
    KINDS,
    SCRATCH,
    PretrainedSettings,
    build_from_record,
    find_model_kind,
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
    "build_from_record",
    "describe_difference",
    "find_model_kind",
    "match_backspace",
]
