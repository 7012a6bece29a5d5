"""The training loop: one run, from settings to a trained policy in a folder."""

from freerun.errors import CheckpointError
from freerun.trainer.checkpoints import load_policy
from freerun.trainer.fit import Fit, fit
from freerun.trainer.objective import Objective
from freerun.trainer.settings import TrainingSettings
from freerun.trainer.trainer import Trainer

__all__ = [
    "CheckpointError",
    "Fit",
    "Objective",
    "Trainer",
    "TrainingSettings",
    "fit",
    "load_policy",
]
