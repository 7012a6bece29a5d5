"""Compare several methods on one task, with everything else equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from rich.table import Table

from freerun import report
from freerun.console import Console
from freerun.evaluation import GREEDY, Decoding
from freerun.methods import Method
from freerun.metrics import score_majority_guess
from freerun.models.settings import ModelSettings
from freerun.study.checks import check_plan, list_decodings, make_plan
from freerun.study.plan import Plan
from freerun.study.reading import write_report
from freerun.study.results import collect_results, write_results
from freerun.study.running import EngineName, choose_engine, do_all
from freerun.study.specs import Given
from freerun.study.tuning import (
    add_tuning,
    apply_tuning,
    check_tuning,
    claim_tuning,
    require_tuning,
)
from freerun.study.work import Work
from freerun.tasks.base import Task
from freerun.training import TrainingSettings
from freerun.training.folders import lock, sweep
from freerun.training.processes import name_dead_processes, using_threads
from freerun.training.progress import show_notes
from freerun.training.record import Record
from freerun.training.resolve import as_setting_errors


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
    jobs: int | None = None,
    engine: EngineName = "processes",
    ray_address: str | None = None,
    quiet: bool = False,
) -> Comparison:
    """Train every method with every seed in the same way, and evaluate them free-running.

    Runs with the same seed start from the same weights and read the data in the same order. An
    interrupted comparison resumes if it is started again, and other methods and seeds may be added
    to one: finished runs are not repeated. results.json (see docs/results.md), two plots,
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
        jobs: the number of runs that are trained side by side; by default 1, and with Ray as many
            as the cluster has CPUs or GPUs for. The results do not depend on it, as each run has
            `training.threads` threads, or one.
        engine: where runs are trained side by side: "processes" of this machine, or by "ray" on the
            machines of a cluster (see docs/results.md).
        ray_address: the address of the cluster; by default that of the environment variable
            RAY_ADDRESS, or a cluster on this machine, which is started if there is none.
        quiet: show neither notes nor progress.

    Raises:
        SettingError: if a method, a setting, the number of seeds or jobs, or the beam is wrong.
        DataError: if the data cannot be used, or a library for them is missing.
        CheckpointError: if `output` holds another comparison, cannot be written, or is written to
            by another process.
        ProcessError: if another process of the comparison has ended, or if a run has failed in one;
            it is raised when the other runs are finished.
        WriteError: if results or plots cannot be written.
    """
    require_tuning(tune)
    plan = make_plan(task, methods, seeds, model, training)
    task, settled = plan.model.complete_task(task)
    plan = replace(plan, task=task)
    decodings = list_decodings(decoding, beam)
    output = Path(output)
    saved = plan.check(output)
    check_tuning(output, tune)
    with as_setting_errors():
        plan.training.arguments(output, task, quiet=True)
    with choose_engine(engine, jobs, plan.threads, ray_address, len(plan.runs)) as chosen:
        data = plan.model.load(task)
        ready = check_plan(plan, data, decodings)
        majority = score_majority_guess(task.get_metrics(), data)
        with _claim(plan, output, tune, saved) as is_main:
            console = Console(stderr=True, quiet=quiet or not is_main)
            notes = [*data.notes, *settled, *plan.describe_progress(output, saved)]
            if not report.can_plot():
                notes.append(report.NO_PLOTS)
            show_notes(notes, console.quiet)
            work = Work(plan, output, decodings, plan.record(data).data)
            runs, tuned = do_all(work, data, tune, chosen, {} if tune else ready, console)
            plan = apply_tuning(plan, tuned)
            results = collect_results(plan, data, majority, runs, command, beam, decoding)
            add_tuning(results, tuned)
            return Comparison(results, _write(results, output) if is_main else [])


@contextmanager
def _claim(plan: Plan, output: Path, trials: int | None, saved: Record | None) -> Iterator[bool]:
    """Lock the folder of a comparison, and write its plan; yield whether this process writes.

    Args:
        plan: the plan.
        output: the folder.
        trials: the number of trials of tuning.
        saved: the plan in it, if there is one.
    """
    process = PartialState()
    with name_dead_processes(), using_threads(plan.threads), ExitStack() as stack:
        process.wait_for_everyone()
        if process.is_main_process:
            stack.enter_context(lock(output))
            sweep(output)
            plan.claim(output, saved)
            claim_tuning(output, trials)
        yield process.is_main_process


def _write(results: dict[str, Any], output: Path) -> list[Path]:
    """Write results, plots if matplotlib is installed, and the report."""
    return [
        write_results(results, output),
        *(report.draw(results, output) if report.can_plot() else []),
        write_report(results, output),
    ]
