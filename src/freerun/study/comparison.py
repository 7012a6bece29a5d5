"""Compare several methods on one task, with everything else equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
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
from freerun.study.view import RunsView
from freerun.study.work import Failure, Parcel, Work
from freerun.study.workers import name_failures, train_side_by_side
from freerun.tasks.base import Task
from freerun.training import TrainingSettings
from freerun.training.checks import check_lengths
from freerun.training.fit import check_training
from freerun.training.folders import lock, sweep
from freerun.training.processes import count_cpus, name_dead_processes, using_threads
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
    jobs: int = 1,
    quiet: bool = False,
) -> Comparison:
    """Train every method with every seed in the same way, and evaluate them free-running.

    Runs with the same seed start from the same weights and read the data in the same order. An
    interrupted comparison resumes if it is started again, and other methods and seeds may be added
    to one: runs that are there are not repeated. results.json (see docs/results.md), two plots,
    report.html, and each model, in a folder NAME/seed-SEED, are written to `output`. Under a
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
        jobs: the number of runs that are trained side by side, in processes of their own. The
            results do not depend on it, as each run has `training.threads` threads, or one.
        quiet: show no progress.

    Raises:
        SettingError: if a method, a setting, the number of seeds or jobs, or the beam is wrong.
        DataError: if the data cannot be used, or a library for them is missing.
        CheckpointError: if `output` holds another comparison, cannot be written, or is written to
            by another process.
        ProcessError: if another process of the comparison has ended, or if a run has failed in one;
            it is raised when the other runs are finished.
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
    check_jobs(jobs, plan.threads)
    there = plan.check(output)
    check_tuning(output, tune)
    with as_setting_errors():
        plan.training.arguments(output, task, quiet=True)
        decodings = [decoding, *([] if beam is None else [Decoding(beam=beam)])]
    data = plan.model.load(task)
    ready = _check_plan(plan, data, decodings)
    majority = score_majority_guess(task.get_metrics(), data)
    process = PartialState()
    quiet = quiet or not process.is_main_process
    with name_dead_processes(), using_threads(plan.threads), ExitStack() as stack:
        process.wait_for_everyone()
        if process.is_main_process:
            stack.enter_context(lock(output))
            sweep(output)
            plan.claim(output, there)
            claim_tuning(output, tune)
        console = Console(stderr=True, quiet=quiet)
        show_notes([*data.notes, *plan.describe_progress(output, there)], quiet)
        tuned: dict[str, Tuned] = {}
        if tune is not None:
            tuned = tune_methods(plan, data, tune, output, tell=console.print, quiet=quiet)
            plan, ready = apply_tuning(plan, tuned), {}
        work = Work(plan, output, decodings, plan.record(data).data)
        found = (
            _train_in_turn(work, data, ready, console)
            if jobs == 1
            else _train_side_by_side(work, jobs, console)
        )
        runs: dict[str, list[SeedResult]] = {name: [] for name in plan.methods}
        for (name, _, _), result in zip(plan.runs, found, strict=True):
            runs[name].append(result)
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


def check_jobs(jobs: int, threads: int) -> None:
    """Check the number of runs side by side.

    Raises:
        SettingError: if it is below 1, more than there are CPUs for, or used under a launcher.
    """
    if jobs < 1:
        raise SettingError(f"jobs is {jobs}; it must be at least 1")
    if jobs > 1 and PartialState().num_processes > 1:
        raise SettingError(f"jobs is {jobs}; under a launcher, it must be 1")
    cpus = count_cpus()
    if jobs > 1 and jobs * threads > cpus and not torch.cuda.is_available():
        raise SettingError(
            f"jobs is {jobs}; with threads={threads} for each it must be at most "
            f"{max(1, cpus // threads)}, as there are {cpus} CPUs"
        )


def _train_in_turn(
    work: Work, data: Data, ready: dict[str, Run], console: Console
) -> list[SeedResult]:
    """Train all runs in this process; return their results in the order of the plan."""
    plan, found = work.plan, []
    for number, (name, seed, _) in enumerate(plan.runs):
        heading = f"Run {number + 1} of {len(plan.runs)}: {name}, seed {seed}"
        console.print(heading, style="bold", markup=False)
        run = ready.pop(name, None) if seed == plan.seeds[0] else None
        found.append(work.train(number, data, quiet=console.quiet, run=run))
        console.print(f"  {_summarize(found[-1], plan.task)}")
    return found


def _train_side_by_side(work: Work, jobs: int, console: Console) -> list[SeedResult]:
    """Train all runs in other processes; return their results in the order of the plan.

    Raises:
        ProcessError: if runs failed, when the others are finished.
    """
    plan = work.plan
    names = {number: f"{name}, seed {seed}" for number, (name, seed, _) in enumerate(plan.runs)}
    found: dict[int, SeedResult] = {}
    failures: dict[str, Failure] = {}
    parcel = Parcel.pack(work)
    with RunsView(console, names) as view:
        ended = train_side_by_side(parcel, len(names), jobs, plan.threads, view)
        with closing(ended):
            for number, result in ended:
                if isinstance(result, Failure):
                    failures[names[number]] = result
                    view.fail(number, result)
                else:
                    found[number] = result
                    view.finish(number, _summarize(result, plan.task))
    if failures:
        raise name_failures(failures, len(names))
    return [found[number] for number in names]


def _summarize(result: SeedResult, task: Task) -> str:
    """Return the headline metric of a run, and how long it was trained."""
    metric = get_headline(task.get_metrics()).name
    figure = f"{result.test.metrics[metric] * scale(metric):.2f} {unit(metric)}".strip()
    spent = f"{result.fit.updates:,} updates in {result.fit.seconds:.0f} s"
    return f"{label(metric)} on test {figure}, after {spent}"
