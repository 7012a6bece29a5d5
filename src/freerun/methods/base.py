"""What every training method is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, get_args, runtime_checkable

from torch import Tensor

from freerun.batch import Batch
from freerun.data import Codec, Task
from freerun.policy import Policy
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True)
class Clock:
    """Where training stands: what schedules are read at and random numbers are named by.

    Args:
        step: updates done so far.
        total: updates planned.
        seed: the seed of the run.
    """

    step: int = 0
    total: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            ValueError: where no update is planned.
        """
        if self.total < 1:
            raise ValueError(f"Clock.total is {self.total}; at least one update must be planned")


@dataclass(frozen=True)
class Outcome:
    """The loss of a batch as a sum, so that padding, accumulation and ranks cannot change it.

    Args:
        total: the loss summed over target tokens; gradients flow through it.
        count: the number of target tokens.
        metrics: what else is worth a look, such as the share of own tokens; without gradient.
    """

    total: Tensor
    count: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


def check_choice(name: str, value: str, literal: Any) -> None:
    """Check that a setting is one of those that its `Literal` type names.

    Raises:
        ValueError: where it is none of them.
    """
    if value not in get_args(literal):
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(get_args(literal))}")


@runtime_checkable
class Method(Protocol):
    """A training method: a dataclass whose fields are its settings.

    Eight more members are looked for, and may be left out: `parts(policy)`, modules that are
    trained with the model; `frozen(policy)`, modules that are not; `state_dict()` with
    `load_state_dict(state)`, what a checkpoint must keep; `after_update(objective, clock)`;
    `for_task(task)`, the method with those settings that were left to the task;
    `check(vocabulary)`, which raises a ValueError where it cannot train on such outputs;
    `backspace`, true where outputs need an action that withdraws the last token; and
    `extra_positions`, how many more positions of a model are read than a target has.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    summary: ClassVar[str]

    def loss(self, policy: Policy, batch: Batch, clock: Clock) -> Outcome:
        """The loss of `batch`; its gradient is what training follows."""
        ...


def needs_backspace(method: Method) -> bool:
    """Whether outputs need an action that withdraws the last token."""
    return bool(getattr(method, "backspace", False))


def no_backspace(vocabulary: Vocabulary, name: str) -> None:
    """See that there is no action that withdraws tokens, which a roll-in or roll-out would read.

    Raises:
        ValueError: where there is one.
    """
    if vocabulary.backspace is not None:
        raise ValueError(
            f"{name} lets the model read what it writes, and withdraws nothing; this model has a "
            "backspace: train it by behaviour_cloning, sequence_match, mle or unlikelihood"
        )


def codec_for(method: Method, codec: Codec) -> Codec:
    """What a policy reads and writes that is trained by a method: with a backspace, if it needs it.

    Raises:
        ValueError: where it needs one, and outputs can have none.
    """
    return codec.with_backspace() if needs_backspace(method) else codec


def check_method(method: Method, codec: Codec) -> None:
    """See that a method can train on outputs of this codec, with a backspace if it needs one.

    Raises:
        ValueError: where it cannot.
    """
    codec = codec_for(method, codec)
    check = getattr(method, "check", None)
    if check is not None:
        check(codec.target)


def suited(method: Method, task: Task) -> Method:
    """The method as it is used on a task: what it left to the task is set."""
    for_task = getattr(method, "for_task", None)
    found: Method = method if for_task is None else for_task(task)
    return found
