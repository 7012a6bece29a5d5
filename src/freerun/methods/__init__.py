"""Training methods, one file each."""

from freerun.methods.base import NO_MODULES, Clock, Method, Modules, Outcome
from freerun.methods.behavior_cloning import BehaviorCloning
from freerun.methods.differentiable_scheduled_sampling import DifferentiableScheduledSampling
from freerun.methods.mle import MLE
from freerun.methods.scheduled_sampling import ScheduledSampling
from freerun.methods.searnn import SEARNN
from freerun.methods.sequence_match import SequenceMatch
from freerun.methods.unlikelihood import Unlikelihood

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        MLE,
        ScheduledSampling,
        DifferentiableScheduledSampling,
        SEARNN,
        BehaviorCloning,
        SequenceMatch,
        Unlikelihood,
    )
}
"""The methods that the command line knows. A method of your own is passed as an object."""

__all__ = [
    "METHODS",
    "MLE",
    "NO_MODULES",
    "SEARNN",
    "BehaviorCloning",
    "Clock",
    "DifferentiableScheduledSampling",
    "Method",
    "Modules",
    "Outcome",
    "ScheduledSampling",
    "SequenceMatch",
    "Unlikelihood",
]
