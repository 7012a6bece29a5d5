"""results.json: the figures of a comparison, and everything needed to reproduce it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64

from freerun.data import Data
from freerun.evaluation import (
    GREEDY,
    Decoding,
    Difference,
    Estimate,
    Evaluation,
    Summary,
    estimate,
    estimate_difference,
    resample,
    summary,
)
from freerun.files import format_json, write
from freerun.metrics import Statistics, get_headline, list_signatures
from freerun.report.labels import ResultsFile
from freerun.settings import to_dict
from freerun.study.plan import Plan
from freerun.training.record import Results

_T = TypeVar("_T")
RESULTS_FILE = "results.json"
_RUN_ONLY = ("init", "horizon", "results")
"""Fields of a record that a comparison does not have."""


@dataclass(frozen=True)
class SeedResult:
    """The results of one method with one seed.

    Args:
        fit: the results of training.
        test: the evaluation of its outputs on test.
        searched: the evaluation of outputs by beam search, if it was requested.
    """

    fit: Results
    test: Evaluation
    searched: Evaluation | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics on test; those of beam search are called `beam_` and their name."""
        beam = {} if self.searched is None else self.searched.metrics
        return {**self.test.metrics, **_add_prefix(beam)}

    @property
    def statistics(self) -> dict[str, Statistics]:
        """The statistics of the test examples for those of the metrics that have any."""
        beam = {} if self.searched is None else self.searched.statistics
        return {**self.test.statistics, **_add_prefix(beam)}


@dataclass(frozen=True)
class _Variant:
    """The results of a method with all seeds.

    Args:
        runs: the runs, in the order of the seeds.
        draws: the metrics of every run for resampled test examples.
    """

    runs: Sequence[SeedResult]
    draws: Sequence[Mapping[str, Float64[np.ndarray, "d"]]]

    @property
    def names(self) -> list[str]:
        """The metrics on test that all runs have: some are undefined for some runs."""
        return [name for name in self.runs[0].metrics if all(name in r.metrics for r in self.runs)]

    def get_values(self, metric: str) -> Float64[np.ndarray, "s"]:
        """Return a metric on test of every seed."""
        return np.array([run.metrics[metric] for run in self.runs], dtype=np.float64)

    def get_draws(self, metric: str) -> Float64[np.ndarray, "d s"] | None:
        """Return the same for resampled test examples; None if it cannot be resampled."""
        found = [draws[metric] for draws in self.draws if metric in draws]
        return np.stack(found, axis=1) if len(found) == len(self.runs) else None

    def estimate(self, metric: str) -> Estimate:
        """Estimate a metric on test."""
        return estimate(self.get_values(metric).tolist(), self.get_draws(metric))

    def compare(self, base: _Variant, metric: str) -> Difference:
        """Estimate the difference to the baseline with the same seeds and test examples."""
        values = (self.get_values(metric) - base.get_values(metric)).tolist()
        own, other = self.get_draws(metric), base.get_draws(metric)
        return estimate_difference(values, None if own is None or other is None else own - other)


def _resample(runs: Mapping[str, Sequence[SeedResult]]) -> dict[str, _Variant]:
    """Compute the metrics of all runs for the same resampled test examples."""
    keys = [
        (name, i, metric)
        for name, found in runs.items()
        for i, run in enumerate(found)
        for metric in run.statistics
    ]
    drawn = resample([runs[name][i].statistics[metric] for name, i, metric in keys])
    draws: dict[str, list[dict[str, Any]]] = {name: [{} for _ in runs[name]] for name in runs}
    for (name, i, metric), values in zip(keys, drawn, strict=True):
        draws[name][i][metric] = values
    return {name: _Variant(runs[name], draws[name]) for name in runs}


def _add_prefix(beam: Mapping[str, _T]) -> dict[str, _T]:
    return {f"beam_{name}": value for name, value in beam.items()}


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
    # What all runs have chosen by the data. Tuning may choose a learning rate for each method.
    chosen, _ = plan.training.complete(len(data.train), plan.model)
    training = replace(plan.training, updates=chosen.updates, evaluate_every=chosen.evaluate_every)
    record = asdict(replace(plan, training=training).record(data))
    for name in _RUN_ONLY:
        del record[name]
    record["task"] |= {
        "metric": headline.name,
        "greater_is_better": headline.greater_is_better,
        "signatures": list_signatures(metrics, data.codec, data.test),
        "notes": list(data.notes),
    }
    variants = _resample(runs)
    for name, found in variants.items():
        record["methods"][name] |= _entry(found, majority, None if base is None else variants[base])
    return {
        **record,
        "base": base,
        "majority": dict(majority),
        "decoding": to_dict(decoding),
        "beam": beam,
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def write_results(results: ResultsFile, output: Path) -> Path:
    """Write results.json into `output` atomically.

    Raises:
        WriteError: if it cannot be written.
    """
    path = output / RESULTS_FILE
    write(path, format_json(results))
    return path


def _entry(
    variant: _Variant, metrics: Mapping[str, float], base: _Variant | None
) -> dict[str, Any]:
    """Collect the results of one variant."""
    runs = variant.runs
    dev = [name for name in runs[0].fit.dev if name in metrics]
    per_update = [run.fit.seconds_per_update for run in runs]
    after = [run.test.error_after_reference for run in runs]
    controls = [each for each in after if each is not None]
    differences: dict[str, Difference] | None = None
    relative: Summary | None = None
    if base is not None:
        differences = {
            name: variant.compare(base, name) for name in variant.names if name in base.names
        }
        others = [run.fit.seconds_per_update for run in base.runs]
        relative = summary([own / other for own, other in zip(per_update, others, strict=True)])
    return {
        "test": {name: variant.estimate(name) for name in variant.names},
        "dev": {name: summary([run.fit.dev[name] for run in runs]) for name in dev},
        "difference_to_mle": differences,
        "updates": [run.fit.updates for run in runs],
        "best_updates": [run.fit.best_update for run in runs],
        "seconds": [run.fit.seconds for run in runs],
        "seconds_per_update": summary(per_update),
        "time_relative_to_mle": relative,
        "learning_curves": [run.fit.curve for run in runs],
        "error_by_position": {
            **_summarize_positions([run.test.error_by_position for run in runs]),
            "count": runs[0].test.count_by_position,
        },
        "error_after_reference": _summarize_positions(controls)
        if len(controls) == len(runs)
        else None,
    }


def _summarize_positions(values: Sequence[Sequence[float]]) -> dict[str, list[Any]]:
    """Summarize a figure of every position over seeds."""
    columns = [summary(column) for column in zip(*values, strict=True)]
    return {
        "mean": [column["mean"] for column in columns],
        "std": [column["std"] for column in columns],
        "values": list(values),
    }
