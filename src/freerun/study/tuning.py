"""Tuning of all methods of a comparison, each with equally many trials on dev."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from freerun.console import Console
from freerun.data import Data
from freerun.errors import CheckpointError
from freerun.files import read_json, write
from freerun.imports import import_extra
from freerun.methods import Method
from freerun.methods.tuning import (
    Range,
    Space,
    get_setting,
    pick_default_settings,
    replace_settings,
)
from freerun.metrics import get_headline
from freerun.settings import SettingError
from freerun.study.plan import Plan
from freerun.study.specs import make_folder_name
from freerun.study.work import Job, Work
from freerun.training import fit
from freerun.training.progress import Status
from freerun.training.resolve import Run

TUNING_SEED = 1_000_000
"""The seed of trials, which is not among the seeds of a comparison unless it is named."""
FOLDER = "tuning"
_FILE = "tuning.json"
_RATE = "training.learning_rate"
_FACTOR = 10
"""Learning rates are tried from the given one divided by this to the given one times this."""


@dataclass(frozen=True)
class Trial:
    """A trial.

    Args:
        settings: the settings that were tried, by their names.
        value: the headline metric on dev; None if training diverged.
    """

    settings: dict[str, Any]
    value: float | None


@dataclass(frozen=True)
class Tuned:
    """A method after tuning.

    Args:
        method: the method with the settings of the best trial.
        learning_rate: the learning rate of that trial.
        trials: all trials, the first with the settings as they were given.
        best: the number of the best trial, from 0.
    """

    method: Method
    learning_rate: float
    trials: list[Trial]
    best: int


def require_tuning(trials: int | None) -> None:
    """Check the number of trials, and that Optuna is installed if there are any.

    Raises:
        SettingError: if the number is below 1.
        MissingExtraError: if Optuna is missing.
    """
    if trials is not None:
        if trials < 1:
            raise SettingError(f"tune is {trials}; it must be at least 1")
        import_extra("optuna", "tune", "tuning")


def check_tuning(output: Path, trials: int | None) -> None:
    """Check that a comparison in `output` was tuned with as many trials.

    Args:
        output: the folder of the comparison.
        trials: the number of trials; None for no tuning.

    Raises:
        CheckpointError: if it was not.
    """
    path = output / FOLDER / _FILE
    there = read_json(path).get("trials") if path.exists() else None
    if there != trials and (there is not None or any(output.glob("*/seed-*"))):
        raise CheckpointError(
            f"{output}: it holds another comparison: tune is {_show(there)} there, and "
            f"{_show(trials)} here; choose another output directory"
        )


def claim_tuning(output: Path, trials: int | None) -> None:
    """Write the number of trials into `output`."""
    if trials is not None:
        (output / FOLDER).mkdir(exist_ok=True)
        write(output / FOLDER / _FILE, json.dumps({"trials": trials}) + "\n")


@dataclass(frozen=True)
class TuneJob(Job):
    """Tuning one method by Optuna's TPE (Bergstra et al. 2011).

    A trial is a run of its own in the folder trial-K. The first one has the settings as they were
    given; each later one is a function of those before it. So an interrupted tuning is resumed by
    doing it again, in which finished trials are only loaded. Methods do not depend on each other.

    Args:
        trials: the number of trials.
    """

    trials: int

    def do(
        self,
        work: Work,
        data: Data,
        *,
        quiet: bool = True,
        on_progress: Callable[[Status], object] | None = None,
        run: Run | None = None,
    ) -> Tuned:
        """Run all trials, and return the best.

        Raises:
            SettingError: if the training of all trials diverges.
        """
        plan = work.plan
        metric = get_headline(plan.task.get_metrics())
        console = Console(stderr=True, quiet=quiet)

        def try_settings(number: int, tried: Method, rate: float) -> float:
            place = f"trial {number + 1} of {self.trials}"
            console.print(f"{place.capitalize()}: {self.variant}", markup=False)
            tell = on_progress and (
                lambda status: on_progress(replace(status, done=f"{place}: {status.done}"))
            )
            ended = fit(
                plan.task,
                replace(data, notes=[]),
                tried,
                model=plan.model,
                training=replace(self.training, learning_rate=rate),
                output=work.output / self.folder / f"trial-{number}",
                quiet=quiet,
                on_progress=tell,
                name=f"{self.variant}, trial {number}",
            )
            return ended.dev[metric.name]

        greater = bool(metric.greater_is_better)
        rate = self.training.complete(len(data.train), plan.model)[0].learning_rate or 0.0
        return _search(self.variant, self.method, rate, self.trials, try_settings, greater)

    def summarize(self, result: Tuned, work: Work) -> str:
        """Return the best trial and its headline metric on dev."""
        value = result.trials[result.best].value
        headline = get_headline(work.plan.task.get_metrics()).name
        shown = work.plan.describe_headline({headline: float(value or 0.0)}, "dev")
        return f"trial {result.best + 1} of {self.trials} is best: {shown}"


def list_tune_jobs(plan: Plan, trials: int) -> list[TuneJob]:
    """List the tuning of all methods of a plan as jobs, which begin before all runs."""
    return [
        TuneJob(
            number - len(plan.methods),
            f"{name}, tuning",
            name,
            method,
            plan.get_training(name, TUNING_SEED),
            Path(FOLDER, make_folder_name(name)),
            trials,
        )
        for number, (name, method) in enumerate(plan.methods.items())
    ]


def _search(
    name: str,
    method: Method,
    rate: float,
    count: int,
    run: Callable[[int, Method, float], float],
    greater_is_better: bool,
) -> Tuned:
    """Search the space of a method."""
    optuna = import_extra("optuna", "tune", "tuning")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, Space] = {_RATE: Range(rate / _FACTOR, rate * _FACTOR, log=True)}
    space |= pick_default_settings(method, method.tuning)
    distributions = {path: _distribute(optuna, each) for path, each in space.items()}
    study = optuna.create_study(
        direction="maximize" if greater_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=0),
    )
    given = {path: rate if path == _RATE else get_setting(method, path) for path in space}
    trials: list[Trial] = []
    for number in range(count):
        asked = study.ask(distributions) if number else None
        tried = given if asked is None else dict(asked.params)
        try:
            value = run(number, *_apply(method, tried))
        except FloatingPointError:
            value = None
        trials.append(Trial(tried, value))
        if asked is not None:
            state = optuna.trial.TrialState
            study.tell(asked, value, state=state.FAIL if value is None else state.COMPLETE)
        elif value is not None:
            # Defaults such as null are outside of the space, and are not learned from.
            known = {path: each for path, each in given.items() if _contains(space[path], each)}
            inner = {path: distributions[path] for path in known}
            study.add_trial(
                optuna.trial.create_trial(params=known, distributions=inner, value=value)
            )
    values = {number: each.value for number, each in enumerate(trials) if each.value is not None}
    if not values:
        raise SettingError(f"method {name!r}: training diverged in all {count} trials")
    best = (max if greater_is_better else min)(values, key=lambda number: values[number])
    return Tuned(*_apply(method, trials[best].settings), trials, best)


def _apply(method: Method, tried: Mapping[str, Any]) -> tuple[Method, float]:
    """Return the method and the learning rate of a trial."""
    own = {path: value for path, value in tried.items() if path != _RATE}
    return replace_settings(method, own), tried[_RATE]


def add_tuning(results: dict[str, Any], tuned: Mapping[str, Tuned]) -> None:
    """Add to the contents of results.json how methods were tuned."""
    for name, entry in results["methods"].items():
        found = tuned.get(name)
        entry["tuning"] = (
            None
            if found is None
            else {
                "trials": [{"settings": each.settings, "dev": each.value} for each in found.trials],
                "best": found.best,
            }
        )


def apply_tuning(plan: Plan, tuned: Mapping[str, Tuned]) -> Plan:
    """Return the plan with the settings that were found for some or all methods."""
    methods = {**plan.methods, **{name: each.method for name, each in tuned.items()}}
    rates = {name: each.learning_rate for name, each in tuned.items()}
    return replace(plan, methods=methods, learning_rates={**plan.learning_rates, **rates})


def _distribute(optuna: ModuleType, space: Space) -> Any:
    if isinstance(space, Range):
        return optuna.distributions.FloatDistribution(space.low, space.high, log=space.log)
    return optuna.distributions.CategoricalDistribution(space.values)


def _contains(space: Space, value: Any) -> bool:
    if isinstance(space, Range):
        return value is not None and space.low <= value <= space.high
    return value in space.values


def _show(trials: int | None) -> str:
    return "null" if trials is None else str(trials)
