"""Training methods, one file each."""

from freerun.imports import get_class_name, import_dataclass, is_address, make_unknown_error
from freerun.methods.actor_critic import ActorCritic
from freerun.methods.base import NO_MODULES, Clock, Method, Modules, Outcome
from freerun.methods.behavior_cloning import BehaviorCloning
from freerun.methods.bso import BSO
from freerun.methods.differentiable_scheduled_sampling import DifferentiableScheduledSampling
from freerun.methods.gkd import GKD
from freerun.methods.mle import MLE
from freerun.methods.mrt import MRT
from freerun.methods.ocd import OCD
from freerun.methods.offline_sampling import AnswerCorrection, OfflineScheduledSampling
from freerun.methods.raml import RAML
from freerun.methods.reinforce import MIXER, Reinforce
from freerun.methods.scheduled_sampling import ScheduledSampling
from freerun.methods.searnn import SEARNN
from freerun.methods.self_distillation import SelfDistillation
from freerun.methods.sequence_match import SequenceMatch
from freerun.methods.unlikelihood import Unlikelihood

METHOD_GROUPS: dict[str, tuple[type[Method], ...]] = {
    "the reference": (MLE, BehaviorCloning, Unlikelihood),
    "the model's own tokens": (
        ScheduledSampling,
        DifferentiableScheduledSampling,
        OfflineScheduledSampling,
        AnswerCorrection,
        BSO,
        SequenceMatch,
    ),
    "costs of outputs": (SEARNN, OCD, MRT, Reinforce, MIXER, ActorCritic, RAML),
    "a teacher": (GKD, SelfDistillation),
}
"""The methods, by what they learn from."""

METHODS: dict[str, type[Method]] = {
    method.name: method for methods in METHOD_GROUPS.values() for method in methods
}
"""The methods, by name."""


def find_method(name: str, prefix: str = "") -> type[Method]:
    """Return the method with a name in `METHODS`, or at an address such as `package.module:Class`.

    Args:
        name: the name, or `package.module:Class`, or `path/to/file.py:Class`.
        prefix: the beginning of messages, such as the name of a variant.

    Raises:
        SettingError: if there is none, or it is not a method.
    """
    if name in METHODS:
        return METHODS[name]
    if not is_address(name):
        raise make_unknown_error(f"{prefix}unknown method", name, METHODS, "MyMethod")
    required = ("name", "paper", "summary")
    return import_dataclass(name, f"{prefix}method", Method, required)  # type: ignore[type-abstract]


def get_method_name(method: type[Method]) -> str:
    """Return the text by which `find_method` finds a method; its name if it has no address."""
    return get_class_name(method, METHODS)


__all__ = [
    "BSO",
    "GKD",
    "METHODS",
    "METHOD_GROUPS",
    "MIXER",
    "MLE",
    "MRT",
    "NO_MODULES",
    "OCD",
    "RAML",
    "SEARNN",
    "ActorCritic",
    "AnswerCorrection",
    "BehaviorCloning",
    "Clock",
    "DifferentiableScheduledSampling",
    "Method",
    "Modules",
    "OfflineScheduledSampling",
    "Outcome",
    "Reinforce",
    "ScheduledSampling",
    "SelfDistillation",
    "SequenceMatch",
    "Unlikelihood",
    "find_method",
    "get_method_name",
]
