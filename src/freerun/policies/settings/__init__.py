"""The settings of models that a user chooses; the rest follows from the task."""

from freerun.policies.settings.base import ModelSettings, agreeing, disagreement
from freerun.policies.settings.kinds import KINDS, SCRATCH, kind_of, settings_from
from freerun.policies.settings.pretrained import PretrainedSettings
from freerun.policies.settings.recurrent import RecurrentSettings
from freerun.policies.settings.scratch import CausalSettings, Seq2SeqSettings

__all__ = [
    "KINDS",
    "SCRATCH",
    "CausalSettings",
    "ModelSettings",
    "PretrainedSettings",
    "RecurrentSettings",
    "Seq2SeqSettings",
    "agreeing",
    "disagreement",
    "kind_of",
    "settings_from",
]
