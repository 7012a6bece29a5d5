"""The plan of a comparison from what was asked for, and checks before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from freerun.data import Data
from freerun.evaluation import MAX_SEEDS, Decoding, check_decoding
from freerun.methods import Method
from freerun.models.settings import KINDS, ModelSettings
from freerun.settings import SettingError
from freerun.study.plan import Plan
from freerun.study.specs import Given, parse_methods
from freerun.tasks.base import Task
from freerun.training import TrainingSettings
from freerun.training.checks import check_lengths
from freerun.training.fit import check_training
from freerun.training.resolve import Run, as_setting_errors, prepare_method, resolve


def make_plan(
    task: Task,
    methods: Given | Mapping[str, Method],
    seeds: int | Sequence[int],
    model: ModelSettings | None,
    training: TrainingSettings | None,
) -> Plan:
    """Make the plan of a comparison; see `freerun.study.compare` for the arguments.

    Raises:
        SettingError: if a method, a setting or the number of seeds is wrong.
    """
    model = model or KINDS[task.default_model](**task.recipe.get("model", {}))
    return Plan(
        task,
        {
            name: method.for_task(task).for_model(at_once=model.reads_rows_at_once)
            for name, method in parse_methods(methods).items()
        },
        list_seeds(seeds),
        model,
        training or TrainingSettings(**{**task.recipe.get("training", {}), **model.training}),
    )


def list_decodings(decoding: Decoding, beam: int | None) -> list[Decoding]:
    """List how the test set is decoded.

    Raises:
        SettingError: if the number of hypotheses is out of range.
    """
    if beam is None:
        return [decoding]
    if beam < 2:
        raise SettingError(f"beam is {beam}; it must be at least 2, as greedy is always reported")
    with as_setting_errors():
        return [decoding, Decoding(beam=beam)]


def list_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds as a list: for a number n, those from 0 to n-1.

    Raises:
        SettingError: if there are none, one is negative, or one is repeated.
    """
    if isinstance(seeds, int) and seeds > MAX_SEEDS:
        raise SettingError(f"seeds is {seeds}; it must be at most {MAX_SEEDS}, or a list of seeds")
    found = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not found:
        raise SettingError(f"seeds is {seeds}; at least one is needed")
    if len(set(found)) < len(found) or min(found) < 0:
        raise SettingError(f"seeds is {list(found)}; they must differ, and be at least 0")
    return found


def check_plan(plan: Plan, data: Data, decodings: Sequence[Decoding]) -> dict[Path, Run]:
    """Check before training that methods and settings fit the task, the model and the device.

    One model is built for all methods that need a backspace, and one for all others.

    Returns:
        The run resolved for the first method of each kind with the first seed, by its folder.

    Raises:
        SettingError: if they are incompatible.
        MissingExtraError: if a library that they need is missing.
    """
    made: dict[Path, Run] = {}
    kinds: dict[bool, Run] = {}
    folders = {name: folder for name, seed, folder in plan.runs if seed == plan.seeds[0]}
    for name, method in plan.methods.items():
        run = kinds.get(method.needs_backspace)
        try:
            codec = method.add_backspace(data.codec if run is None else run.codec)
            prepared = prepare_method(method, codec, data.train)
        except ValueError as error:
            raise SettingError(f"method {name!r}: {error}") from None
        if run is None:
            # Of the prepared method, as a teacher that is loaded is not loaded again. Its cost is
            # bound to the codec of the data, which that of the run equals but for a backspace, and
            # methods with costs have none.
            run = resolve(plan.model, data, prepared, task=plan.task, seed=plan.seeds[0])
            kinds[method.needs_backspace] = made[folders[name]] = run
            with as_setting_errors():
                for decoding in decodings:
                    check_decoding(run.policy, data.test, decoding)
        check_lengths(run.policy, data.train, "train", method.extra_positions)
        check_training(replace(run, method=prepared), plan.training)
    return made
