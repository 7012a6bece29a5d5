"""Compare several methods on one task, with everything else equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from rich.table import Table

from freerun import report
from freerun.console import Console
from freerun.data import Data
from freerun.evaluation import GREEDY, MAX_SEEDS, Decoding, check_decoding
from freerun.methods import Method
from freerun.metrics import get_headline, score_majority_guess
from freerun.models.settings import ModelSettings, RecurrentSettings
from freerun.report.labels import label, scale, unit
from freerun.settings import SettingError
from freerun.study.outputs import BEAM, evaluate_run
from freerun.study.plan import Plan
from freerun.study.reading import write_report
from freerun.study.results import SeedResult, collect_results, write_results
from freerun.study.specs import Given, parse_methods
from freerun.study.tuning import (
    Tuned,
    add_tuning,
    apply_tuning,
    check_tuning,
    claim_tuning,
    require_tuning,
    tune_methods,
)
from freerun.tasks.base import Task
from freerun.training import TrainingSettings, fit
from freerun.training.checks import check_lengths
from freerun.training.fit import check_training
from freerun.training.folders import lock, sweep
from freerun.training.processes import name_dead_processes
from freerun.training.progress import show_notes
from freerun.training.resolve import Run, as_setting_errors, resolve


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        results: the contents of its results.json.
        files: that file, the plots and the report.
    """

    results: dict[str, Any]
    files: list[Path]

    @property
    def table(self) -> Table:
        """The results as a rich table."""
        return report.table(self.results)

    @property
    def answer(self) -> list[str]:
        """Which method is best, by how much and at what cost, in sentences."""
        return report.describe_comparison(self.results)


def compare(
    task: Task,
    methods: Given | Mapping[str, Method],
    *,
    output: str | Path,
    seeds: int | Sequence[int] = 3,
    model: ModelSettings | None = None,
    training: TrainingSettings | None = None,
    beam: int | None = None,
    decoding: Decoding = GREEDY,
    command: str | None = None,
    tune: int | None = None,
    quiet: bool = False,
) -> Comparison:
    """Train every method with every seed in the same way, and evaluate them free-running.

    Runs with the same seed start from the same weights and read the data in the same order. An
    interrupted comparison resumes if it is started again. results.json (see docs/results.md), two
    plots, report.html, and each model, in a folder NAME/seed-SEED, are written to `output`. Under a
    launcher, all processes call this function, and the first one writes.

    Args:
        task: the task.
        methods: the methods to compare (see `freerun.study.parse_methods`): texts such as
            "scheduled_sampling:schedule=linear", or methods or mappings of settings by name.
        output: the folder of the comparison.
        seeds: the number of runs of each method, with the seeds 0, 1, …; or the seeds.
        model: the settings of the model; by default those of the task's recipe.
        training: the settings of training; by default those of the task's recipe. With `budget`,
            all methods train for the same time instead of the same number of updates.
        beam: also decode the test set by beam search with this number of hypotheses.
        decoding: how the test set is decoded; by default greedily.
        command: the command line, which is saved with the results.
        tune: the number of trials on dev by which the settings of every method are tuned first (see
            docs/tuning.md); None for no tuning.
        quiet: show no progress.

    Raises:
        SettingError: if a method, a setting, the number of seeds or the beam is wrong.
        DataError: if the data cannot be used, or a library for them is missing.
        CheckpointError: if `output` holds another comparison, cannot be written, or is written to
            by another process.
        ProcessError: if another process of the comparison has ended.
        MissingExtraError: if matplotlib is missing.
        WriteError: if results or plots cannot be written.
    """
    report.require_plots()
    require_tuning(tune)
    model = model or RecurrentSettings(**task.recipe.get("model", {}))
    plan = Plan(
        task,
        {name: method.for_task(task) for name, method in parse_methods(methods).items()},
        list_seeds(seeds),
        model,
        training or TrainingSettings(**{**task.recipe.get("training", {}), **model.training}),
    )
    if beam is not None and beam < 2:
        raise SettingError(f"beam is {beam}; it must be at least 2, as greedy is always reported")
    output = Path(output)
    plan.check(output)
    check_tuning(output, tune)
    with as_setting_errors():
        plan.training.arguments(output, task, quiet=True)
        decodings = [decoding, *([] if beam is None else [Decoding(beam=beam)])]
    data = plan.model.load(task)
    ready = _check_plan(plan, data, decodings)
    majority = score_majority_guess(task.get_metrics(), data)
    process = PartialState()
    quiet = quiet or not process.is_main_process
    with name_dead_processes(), ExitStack() as stack:
        process.wait_for_everyone()
        if process.is_main_process:
            stack.enter_context(lock(output))
            sweep(output)
            plan.claim(output)
            claim_tuning(output, tune)
        console = Console(stderr=True, quiet=quiet)
        show_notes(data.notes, quiet)
        tuned: dict[str, Tuned] = {}
        if tune is not None:
            tuned = tune_methods(plan, data, tune, output, tell=console.print, quiet=quiet)
            plan, ready = apply_tuning(plan, tuned), {}
        runs = _train_all(plan, data, ready, decodings, output, console, quiet)
        results = collect_results(plan, data, majority, runs, command, beam, decoding)
        add_tuning(results, tuned)
        files = []
        if process.is_main_process:
            files = [
                write_results(results, output),
                *report.draw(results, output),
                write_report(results, output),
            ]
        return Comparison(results, files)


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


def _check_plan(plan: Plan, data: Data, decodings: Sequence[Decoding]) -> dict[str, Run]:
    """Check before training that methods and settings fit the task, the model and the device.

    One model is built for all methods that need a backspace, and one for all others.

    Returns:
        The run resolved for the first method of each kind, by its name, with the first seed.

    Raises:
        SettingError: if they are incompatible.
        MissingExtraError: if a library that they need is missing.
    """
    made: dict[str, Run] = {}
    kinds: dict[bool, Run] = {}
    for name, method in plan.methods.items():
        run = kinds.get(method.needs_backspace)
        try:
            method.check(method.add_backspace(data.codec if run is None else run.codec).target)
        except ValueError as error:
            raise SettingError(f"method {name!r}: {error}") from None
        if run is None:
            run = resolve(plan.model, data, method, task=plan.task, seed=plan.seeds[0])
            kinds[method.needs_backspace] = made[name] = run
            with as_setting_errors():
                for decoding in decodings:
                    check_decoding(run.policy, data.test, decoding)
        check_lengths(run.policy, data.train, "train", method.extra_positions)
        check_training(replace(run, method=method), plan.training)
    return made


def _train_all(
    plan: Plan,
    data: Data,
    ready: dict[str, Run],
    decodings: Sequence[Decoding],
    output: Path,
    console: Console,
    quiet: bool,
) -> dict[str, list[SeedResult]]:
    """Train and evaluate every run; finished runs are only loaded."""
    planned = list(plan.runs())
    runs: dict[str, list[SeedResult]] = {name: [] for name in plan.methods}
    for number, (name, seed, folder) in enumerate(planned, 1):
        heading = f"Run {number} of {len(planned)}: {name}, seed {seed}"
        console.print(heading, style="bold", markup=False)
        run = fit(
            plan.task,
            replace(data, notes=[]),  # they were shown once
            plan.methods[name],
            model=plan.model,
            training=plan.get_training(name, seed),
            output=output / folder,
            quiet=quiet,
            run=ready.pop(name, None) if seed == plan.seeds[0] else None,
            name=f"{name}, seed {seed}",
        )
        test, *searched = (
            evaluate_run(
                run,
                plan.task,
                data.test,
                output / folder,
                decoding=decoding,
                batch_size=plan.training.eval_batch_size,
                prefix=prefix,
                save=PartialState().is_main_process,
            )
            for decoding, prefix in zip(decodings, ("", BEAM), strict=False)
        )
        runs[name].append(SeedResult(run, test, *searched))
        metric = get_headline(plan.task.get_metrics()).name
        figure = f"{test.metrics[metric] * scale(metric):.2f} {unit(metric)}".strip()
        spent = f"{run.updates:,} updates in {run.seconds:.0f} s"
        console.print(f"  {label(metric)} on test {figure}, after {spent}")
    return runs
