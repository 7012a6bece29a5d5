"""freerun trains sequence models for the way they run.

What most users need can be imported from here; everything else from its package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from freerun.evaluation import evaluate
    from freerun.methods import (
        BSO,
        GKD,
        MIXER,
        MLE,
        MRT,
        OCD,
        RAML,
        SEARNN,
        ActorCritic,
        AnswerCorrection,
        BehaviorCloning,
        DifferentiableScheduledSampling,
        Method,
        OfflineScheduledSampling,
        Reinforce,
        ScheduledSampling,
        SelfDistillation,
        SequenceMatch,
        Unlikelihood,
    )
    from freerun.models import adapt
    from freerun.study import compare, diagnose
    from freerun.training import ExposureBiasCallback, Trainer, TrainingSettings, fit, load_policy
    from freerun.training.prediction import load

__all__ = [
    "BSO",
    "GKD",
    "MIXER",
    "MLE",
    "MRT",
    "OCD",
    "RAML",
    "SEARNN",
    "ActorCritic",
    "AnswerCorrection",
    "BehaviorCloning",
    "DifferentiableScheduledSampling",
    "ExposureBiasCallback",
    "Method",
    "OfflineScheduledSampling",
    "Reinforce",
    "ScheduledSampling",
    "SelfDistillation",
    "SequenceMatch",
    "Trainer",
    "TrainingSettings",
    "Unlikelihood",
    "__version__",
    "adapt",
    "compare",
    "diagnose",
    "evaluate",
    "fit",
    "load",
    "load_policy",
]

_HOMES = {
    "adapt": "models",
    "compare": "study",
    "diagnose": "study",
    "evaluate": "evaluation",
    "load": "training.prediction",
    **dict.fromkeys(
        ("ExposureBiasCallback", "Trainer", "TrainingSettings", "fit", "load_policy"), "training"
    ),
}
"""Where names are defined; all others are methods."""


def __getattr__(name: str) -> Any:
    """Import names on first use, so that losses and costs alone are quick to import."""
    if name not in __all__:
        raise AttributeError(f"module 'freerun' has no attribute {name!r}")
    if name == "__version__":
        return import_module("importlib.metadata").version("freerun")
    return getattr(import_module(f"freerun.{_HOMES.get(name, 'methods')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
