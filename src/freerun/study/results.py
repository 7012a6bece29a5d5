"""results.json: the figures of a comparison, and everything needed to reproduce it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from freerun.data import Data
from freerun.evaluation import GREEDY, Decoding, Evaluation
from freerun.files import write
from freerun.metrics import get_headline, list_signatures
from freerun.report import Summary, summary
from freerun.settings import to_dict
from freerun.study.plan import Plan
from freerun.training import Fit

RESULTS_FILE = "results.json"
_RUN_ONLY = ("init", "horizon", "results")
"""Fields of a record that a comparison does not have."""


@dataclass(frozen=True)
class SeedResult:
    """The results of one method with one seed.

    Args:
        fit: the finished run.
        test: the evaluation of its outputs on test.
        searched: the evaluation of outputs by beam search, if it was requested.
    """

    fit: Fit
    test: Evaluation
    searched: Evaluation | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics on test; those of beam search are called `beam_` and their name."""
        beam = {} if self.searched is None else self.searched.metrics
        return {**self.test.metrics, **{f"beam_{name}": value for name, value in beam.items()}}


def collect_results(
    plan: Plan,
    data: Data,
    majority: Mapping[str, float],
    runs: Mapping[str, Sequence[SeedResult]],
    command: str | None = None,
    beam: int | None = None,
    decoding: Decoding = GREEDY,
) -> dict[str, Any]:
    """Collect the contents of results.json (see docs/results.md).

    Args:
        plan: the plan of the comparison.
        data: the data of the task.
        majority: the metrics on test of a constant guess that ignores the source.
        runs: the runs of every variant, in the order of the seeds.
        command: the command line.
        beam: the number of hypotheses if test was also decoded by beam search.
        decoding: how test was decoded otherwise.
    """
    base, metrics = plan.base, plan.task.get_metrics()
    headline = get_headline(metrics)
    record = asdict(plan.record(data))
    for name in _RUN_ONLY:
        del record[name]
    record["task"] |= {
        "metric": headline.name,
        "greater_is_better": headline.greater_is_better,
        "signatures": list_signatures(metrics, data.codec, data.test),
        "notes": list(data.notes),
    }
    for name, found in runs.items():
        record["methods"][name] |= _entry(found, majority, None if base is None else runs[base])
    return {
        **record,
        "base": base,
        "majority": dict(majority),
        "decoding": to_dict(decoding),
        "beam": beam,
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def write_results(results: Mapping[str, Any], output: Path) -> Path:
    """Write results.json into `output` atomically.

    Raises:
        WriteError: if it cannot be written.
    """
    path = output / RESULTS_FILE
    write(path, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return path


def _entry(
    runs: Sequence[SeedResult], metrics: Mapping[str, float], base: Sequence[SeedResult] | None
) -> dict[str, Any]:
    """Collect the results of one variant."""
    test = _names(runs)
    dev = [name for name in runs[0].fit.dev if name in metrics]
    per_update = [run.fit.seconds_per_update for run in runs]
    errors = [run.test.error_by_position for run in runs]
    columns = [summary(column) for column in zip(*errors, strict=True)]
    differences: dict[str, Summary] | None = None
    relative: Summary | None = None
    if base is not None:
        differences = {
            name: summary(
                [
                    run.metrics[name] - other.metrics[name]
                    for run, other in zip(runs, base, strict=True)
                ]
            )
            for name in _names([*runs, *base])
        }
        others = [run.fit.seconds_per_update for run in base]
        relative = summary([own / other for own, other in zip(per_update, others, strict=True)])
    return {
        "test": {name: summary([run.metrics[name] for run in runs]) for name in test},
        "dev": {name: summary([run.fit.dev[name] for run in runs]) for name in dev},
        "difference_to_mle": differences,
        "updates": [run.fit.updates for run in runs],
        "best_updates": [run.fit.best_update for run in runs],
        "seconds": [run.fit.seconds for run in runs],
        "seconds_per_update": summary(per_update),
        "time_relative_to_mle": relative,
        "learning_curves": [run.fit.curve for run in runs],
        "error_by_position": {
            "mean": [column["mean"] for column in columns],
            "std": [column["std"] for column in columns],
            "values": errors,
            "count": runs[0].test.count_by_position,
        },
    }


def _names(runs: Sequence[SeedResult]) -> list[str]:
    """Return the metrics on test that all runs have: some are undefined for some runs."""
    return [name for name in runs[0].metrics if all(name in run.metrics for run in runs)]
