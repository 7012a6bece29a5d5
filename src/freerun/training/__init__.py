"""Training: one run, from settings to a trained policy in a folder."""

from freerun.training.checkpoints import load_policy
from freerun.training.exposure_bias import ExposureBiasCallback
from freerun.training.fit import Fit, fit
from freerun.training.objective import Objective
from freerun.training.settings import TrainingSettings
from freerun.training.trainer import Trainer

__all__ = [
    "ExposureBiasCallback",
    "Fit",
    "Objective",
    "Trainer",
    "TrainingSettings",
    "fit",
    "load_policy",
]
