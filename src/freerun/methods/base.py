"""The base class of training methods, and the arguments and result of their `loss`."""

from __future__ import annotations

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast, get_args

import torch
from torch import Tensor, nn

from freerun.batch import Batch
from freerun.data import Codec
from freerun.methods.tuning import Space
from freerun.policy import Policy
from freerun.tasks.base import Task
from freerun.vocabulary import Vocabulary

PolicyLoader = Callable[[str], Policy]
"""A function from the folder of a trained model to its policy."""


@dataclass(frozen=True)
class Clock:
    """The progress of training, from which schedules and random numbers are computed.

    Args:
        step: the number of updates done.
        total: the number of updates planned, at least 1.
        seed: the seed of the run.

    Raises:
        ValueError: if no update is planned.
    """

    step: int = 0
    total: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the range."""
        if self.total < 1:
            raise ValueError(f"Clock.total is {self.total}; at least one update must be planned")


@dataclass(frozen=True)
class Outcome:
    """The loss of a batch, as a sum and the number of its terms.

    Training divides the sum of all totals of an update by the sum of their counts, over all batches
    and processes. So the loss is the same however an update is split into batches.

    Args:
        total: the sum of the losses, a tensor without dimensions; the gradient flows through it.
        count: the number of terms in the sum, usually target tokens. A method that learns other
            sequences than the targets counts the tokens of those.
        metrics: values to log, without gradient: means over the terms of this batch. Those of
            several batches are averaged, weighted by counts.
    """

    total: Tensor
    count: Tensor | int | float
    metrics: Mapping[str, Tensor | int | float] = field(default_factory=dict)


class Modules(nn.Module):
    """The modules that a method has besides the policy, such as a critic, a baseline or a teacher.

    `modules["baseline"]` is the module of that name; `modules.get_policy("teacher")` is a policy.

    Args:
        trained: modules that are trained together with the policy, by name.
        frozen: modules that the optimizer does not update, by name, such as a teacher or a target
            network. They are in evaluation mode and have no gradient; `Method.after_update` may
            change them.
        learning_rates: the learning rates of trained modules, by name; by default that of the
            policy. The schedule of the run scales all of them.

    Raises:
        ValueError: if a trained and a frozen module have the same name, or a learning rate is
            not that of a trained module, or not above 0.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Module] | None = None,
        frozen: Mapping[str, nn.Module] | None = None,
        learning_rates: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.trained = nn.ModuleDict(trained)
        self.frozen = nn.ModuleDict(frozen).requires_grad_(False)
        self.learning_rates = dict(learning_rates or {})
        for name in self.frozen:
            if name in self.trained:
                raise ValueError(f"module {name!r} is both trained and frozen")
        for name, rate in self.learning_rates.items():
            if name not in self.trained:
                raise ValueError(f"learning_rates has {name!r}, which is not a trained module")
            if not rate > 0:
                raise ValueError(f"the learning rate of {name!r} is {rate}; it must be above 0")
        self.train()

    def __getitem__(self, name: str) -> nn.Module:
        """Return a module by its name."""
        return self.trained[name] if name in self.trained else self.frozen[name]

    def get_policy(self, name: str) -> Policy:
        """Return a module that is a policy, such as a teacher, by its name."""
        return cast(Policy, self[name])

    def train(self, mode: bool = True) -> Modules:
        """Set training or evaluation mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        self.frozen.eval()
        return self


NO_MODULES = Modules()
"""The modules of a method that has none."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A training method: a frozen dataclass whose fields are its settings.

    A subclass defines `name`, `paper`, `summary` and `loss`; all other members have defaults that
    do nothing. Each run trains with a copy of its method, so that no state is shared between runs.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the loss of a batch.

        Args:
            policy: the model that is trained.
            batch: the examples.
            clock: the progress of training. All random choices are functions of its seed and step,
                and of `batch.ids` (see `freerun.randomness`).
            modules: what `build_modules` made.
        """

    @property
    def needs_backspace(self) -> bool:
        """Whether outputs need an action that withdraws the last token."""
        return False

    @property
    def extra_positions(self) -> int:
        """How many more positions of the model than a target has may be read in training."""
        return 0

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The settings that tuning tries, and their spaces (see `freerun.methods.tuning`).

        Settings that differ from their default are left as they are. The learning rate is tuned for
        all methods.
        """
        return {}

    def for_task(self, task: Task) -> Method:
        """Return this method with the settings that come from the task, such as its cost."""
        return self

    def for_model(self, *, at_once: bool) -> Method:
        """Return this method with the settings that depend on the kind of model.

        Args:
            at_once: whether the model reads all cells of a row in one pass, as Transformers do.
        """
        return self

    def for_codec(self, codec: Codec) -> Method:
        """Return this method with the settings that depend on how outputs are read as text.

        Args:
            codec: the codec of the model.
        """
        return self

    def with_loader(self, load: PolicyLoader) -> Method:
        """Return this method with a function that loads trained policies, such as a teacher.

        Args:
            load: a function from a folder to the policy there. It raises an error if the folder
                cannot be read, or sources and outputs of the policy are not those of the run.
        """
        return self

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that the method can train on outputs of a vocabulary.

        Raises:
            ValueError: if it cannot.
        """

    def add_backspace(self, codec: Codec) -> Codec:
        """Return the codec that the method trains on: with a backspace if it needs one.

        Raises:
            ValueError: if it needs one, and outputs of the codec cannot have one.
        """
        return codec.with_backspace() if self.needs_backspace else codec

    def build_modules(self, policy: Policy) -> Modules:
        """Build the modules that the method has besides the policy.

        It is called once, before training, with torch's generator seeded by the seed of the run.
        The modules are saved in every checkpoint, and loaded when a run is resumed.
        """
        return Modules()

    def after_update(self, policy: Policy, clock: Clock, modules: Modules = NO_MODULES) -> None:
        """Run code after each update, such as moving a target network.

        Args:
            policy: the model, updated.
            clock: the clock of the last update.
            modules: what `build_modules` made.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the method, besides its modules, that checkpoints must contain.

        Values are tensors or can be written as JSON. A method with state never returns an empty
        dictionary.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""


def copy_delayed(policy: Policy, weight: float) -> Policy:
    """Return a copy of a policy that `move_parameters` is to move after every update.

    If the policy is trained in half precision, in which small steps would be rounded away, the copy
    is in single precision.

    Args:
        policy: the policy.
        weight: the share of the distance that it is moved, in [0, 1]; with 0 and 1, nothing is
            rounded, and the precision is kept.
    """
    copied = copy.deepcopy(policy)
    trained = (parameter.dtype for parameter in policy.parameters() if parameter.requires_grad)
    rounds = any(torch.promote_types(dtype, torch.float32) != dtype for dtype in trained)
    return copied.float() if rounds and 0 < weight < 1 else copied


@torch.no_grad()
def move_parameters(moved: nn.Module, target: nn.Module, weight: float) -> None:
    """Move the parameters of a module to those of another of the same form.

    Args:
        moved: the module that is changed, such as a target network.
        target: the module that it is moved to.
        weight: the share of the distance, in [0, 1]; with 1, they are equal afterwards.
    """
    theirs = itertools.chain(moved.parameters(), moved.buffers())
    ours = itertools.chain(target.parameters(), target.buffers())
    for each, value in zip(theirs, ours, strict=True):
        if each.is_floating_point():
            each.lerp_(value.to(each.dtype), weight)


def check_choice(name: str, value: str, literal: object) -> None:
    """Check that a setting is one of the values of its `Literal` type.

    Raises:
        ValueError: if it is not.
    """
    if value not in get_args(literal):
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(get_args(literal))}")


def check_range(
    name: str, value: int | float | None, low: int | float, high: int | float = math.inf
) -> None:
    """Check that a setting, unless it is None, lies in a closed interval.

    Raises:
        ValueError: if it does not.
    """
    if value is not None and not low <= value <= high:
        right = f"at least {low}" if high == math.inf else f"in [{low}, {high}]"
        raise ValueError(f"{name} is {value}; it must be {right}")


def check_warm_up(value: float) -> None:
    """Check that a fraction of updates, at the start of training, leaves some after it.

    Raises:
        ValueError: if it is not in [0, 1).
    """
    if not 0 <= value < 1:
        raise ValueError(f"warm_up is {value}; it must lie in [0, 1)")


def refuse_backspace(vocabulary: Vocabulary, name: str) -> None:
    """Check that the vocabulary has no backspace: a roll-in or roll-out would read it as a token.

    Raises:
        ValueError: if there is one.
    """
    if vocabulary.backspace is not None:
        raise ValueError(
            f"{name} cannot train a model with a backspace, which it would read as a token; use "
            "behavior_cloning, sequence_match, mle or unlikelihood"
        )
