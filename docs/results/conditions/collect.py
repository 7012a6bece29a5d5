"""Collect what scheduled sampling gained in every setting, beside the diagnosis of MLE.

    python docs/results/conditions/collect.py runs/conditions docs/results/conditions

reads the folders that run.sh has written, prints the tables, and writes figures.json, and a results
file for each setting. Settings that are not finished are left out.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t

METHODS = ("mle", "scheduled_sampling")
FIGURES = ("after_reference", "after_own", "excess")
METRICS = ("character_error", "exact_match")


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text("utf-8"))


def find_seeds(run: Path) -> list[int]:
    """Return the seeds of a comparison."""
    seeds: list[int] = read(run / "results.json")["seeds"]
    return seeds


def collect_setting(run: Path) -> dict[str, list[float]]:
    """Return the figures of one comparison, by seed: of MLE by `diagnose`, and of both on test."""
    found: dict[str, list[float]] = {}
    for seed in find_seeds(run):
        diagnosis = read(run / f"diagnosis-{seed}.json")
        for name in FIGURES:
            found.setdefault(name, []).append(diagnosis[name]["value"])
    methods = read(run / "results.json")["methods"]
    for method in METHODS:
        for metric in METRICS:
            found[f"{method}, {metric}"] = methods[method]["test"][metric]["values"]
        found[f"{method}, best update"] = methods[method]["best_updates"]
    found["gain"] = subtract(found, "")
    return found


def subtract(found: dict[str, list[float]], before: str) -> list[float]:
    """Return by how much scheduled sampling lowers the character error, by seed."""
    pairs = zip(*(found[f"{before}{method}, character_error"] for method in METHODS), strict=True)
    return [one - other for one, other in pairs]


def collect_decoding(run: Path) -> dict[str, list[float]]:
    """Return the errors on test of all ways to decode, by method and seed."""
    found: dict[str, list[float]] = {}
    for method in METHODS:
        for path in sorted(run.glob(f"{method}-0-*.json")):
            name = path.stem.removeprefix(f"{method}-0-")
            seeds = [run / f"{method}-{seed}-{name}.json" for seed in find_seeds(run)]
            for metric in METRICS:
                found[f"{name}, {method}, {metric}"] = [
                    read(seed)["metrics"][metric] for seed in seeds
                ]
    for name in dict.fromkeys(key.partition(",")[0] for key in found):
        found[f"{name}, gain"] = subtract(found, f"{name}, ")
    return found


def describe(values: list[float]) -> str:
    """Return mean, Student's 95 % interval, and all values, in percent; of one, only itself."""
    if len(values) == 1:
        return f"{100 * values[0]:8.2f}"
    wide = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    mean = fmean(values)
    each = ", ".join(f"{100 * value:.2f}" for value in values)
    return f"{100 * mean:8.2f} [{100 * (mean - wide):.2f}, {100 * (mean + wide):.2f}]  {each}"


def main(runs: Path, output: Path) -> None:
    """Write the figures of all finished settings."""
    figures = {}
    for results in sorted(runs.glob("*/results.json")):
        try:
            figures[results.parent.name] = collect_setting(results.parent)
        except FileNotFoundError as error:
            print(f"{results.parent.name} is left out: there is no {error.filename}")
            continue
        shutil.copyfile(results, output / f"{results.parent.name}.json")
    if decoding := collect_decoding(runs / "rows-20000"):
        figures["decoding"] = decoding
    for name, values in figures.items():
        print(name)
        for figure, each in values.items():
            updates = figure.endswith("update")
            print(f"  {figure:45}", each if updates else describe(each))
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
