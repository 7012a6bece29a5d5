"""All jobs of a comparison, one after another or side by side, and their results."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

from freerun.console import Console
from freerun.data import Data
from freerun.settings import SettingError
from freerun.study.engines import Engine, do_side_by_side, name_failures
from freerun.study.ray_workers import RayEngine
from freerun.study.results import SeedResult
from freerun.study.tuning import Tuned, apply_tuning, list_tune_jobs
from freerun.study.view import RunsView
from freerun.study.work import Failure, Job, Parcel, TrainJob, Work, list_train_jobs
from freerun.study.workers import Processes, check_jobs
from freerun.training.resolve import Run

EngineName = Literal["processes", "ray"]
_Ended = Generator[tuple[Job, Any], None, None]


def choose_engine(
    engine: str, jobs: int | None, threads: int, address: str | None, runs: int
) -> AbstractContextManager[Engine | None]:
    """Choose the engine of a comparison: None if one run after another is trained in this process.

    Args:
        engine: its name.
        jobs: the number of runs side by side; None for the default of the engine.
        threads: the number of threads of each.
        address: the address of the cluster of Ray.
        runs: the number of all runs.

    Raises:
        SettingError: if a setting is out of range, or the cluster cannot be reached.
        MissingExtraError: if Ray is missing.
    """
    if engine not in get_args(EngineName):
        raise SettingError(f"engine is {engine!r}; it must be one of processes, ray")
    if jobs is not None and jobs < 1:
        raise SettingError(f"jobs is {jobs}; it must be at least 1")
    if engine == "ray":
        return RayEngine(jobs, threads, address)
    if address is not None:
        raise SettingError(f"ray_address is {address!r}; it has an effect only with engine=ray")
    if jobs in (None, 1):
        return nullcontext()
    check_jobs(jobs, threads)
    return Processes(min(jobs, runs), threads)


def do_all(
    work: Work,
    data: Data,
    trials: int | None,
    engine: Engine | None,
    ready: dict[Path, Run],
    console: Console,
) -> tuple[dict[str, list[SeedResult]], dict[str, Tuned]]:
    """Tune all methods, if there are trials, and do all runs.

    The runs of a method wait only for its own tuning.

    Args:
        work: the work.
        data: the data of the task.
        trials: the number of trials of each method.
        engine: the engine; None to do one job after another in this process.
        ready: results of `resolve` from before, by the folders of runs.
        console: the console to show progress on.

    Returns:
        For every method its runs, in the order of the seeds, and what its tuning has found.

    Raises:
        ProcessError: if jobs failed in other processes, when the others are finished.
    """
    plan, runs = work.plan, list_train_jobs(work.plan)
    waiting: list[Job] = [*(runs if trials is None else list_tune_jobs(plan, trials))]
    names = {job.number: job.name for job in (*waiting, *runs)}
    tuned: dict[str, Tuned] = {}
    found: dict[int, SeedResult] = {}
    failures: dict[str, Failure] = {}
    # Both generators take jobs out of `waiting`, to which runs of tuned methods are added below.
    ended = (
        _do_in_turn(work, data, waiting, ready, console)
        if engine is None
        else _do_side_by_side(work, waiting, engine, RunsView(console, names))
    )
    with closing(ended):
        for job, result in ended:
            if isinstance(result, Failure):
                failures[job.name] = result
            elif isinstance(result, Tuned):
                tuned[job.variant] = result
                all_runs = list_train_jobs(apply_tuning(plan, tuned))
                waiting += [run for run in all_runs if run.variant == job.variant]
                waiting.sort(key=lambda job: job.number)
            else:
                found[job.number] = result
    if failures:
        raise name_failures(failures, len(found) + len(tuned), len(names))
    return {
        name: [found[run.number] for run in runs if run.variant == name] for name in plan.methods
    }, tuned


def _do_in_turn(
    work: Work, data: Data, waiting: list[Job], ready: dict[Path, Run], console: Console
) -> _Ended:
    """Do one job after another in this process; yield each with its result."""
    count = len(work.plan.runs)
    while waiting:
        job = waiting.pop(0)
        if isinstance(job, TrainJob):
            heading = f"Run {job.number + 1} of {count}: {job.name}"
            console.print(heading, style="bold", markup=False)
        result = job.do(work, data, quiet=console.quiet, run=ready.pop(job.folder, None))
        console.print(f"  {job.summarize(result, work)}", markup=False)
        yield job, result


def _do_side_by_side(work: Work, waiting: list[Job], engine: Engine, view: RunsView) -> _Ended:
    """Do jobs in the workers of an engine; yield each with its result or `Failure`."""
    with view, closing(do_side_by_side(engine, Parcel.pack(work), waiting, view)) as ended:
        for job, result in ended:
            if isinstance(result, Failure):
                view.fail(job.number, result)
            else:
                view.finish(job.number, job.summarize(result, work))
            yield job, result
