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
from statistics import fmean
from typing import Any

METHODS = ("mle", "scheduled_sampling")
FIGURES = ("after_reference", "after_own", "excess")
METRICS = ("character_error", "exact_match")
SEEDS = range(3)


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text("utf-8"))


def collect_setting(run: Path) -> dict[str, list[float]]:
    """Return the figures of one comparison, by seed: of MLE by `diagnose`, and of both on test."""
    found = {name: list[float]() for name in FIGURES}
    for seed in SEEDS:
        diagnosis = read(run / f"diagnosis-{seed}.json")
        for name in FIGURES:
            found[name].append(diagnosis[name]["value"])
    methods = read(run / "results.json")["methods"]
    for method in METHODS:
        for metric in METRICS:
            found[f"{method}, {metric}"] = methods[method]["test"][metric]["values"]
        found[f"{method}, best update"] = methods[method]["best_updates"]
    return found


def collect_decoding(run: Path) -> dict[str, list[float]]:
    """Return the errors on test of all ways to decode, by method and seed."""
    found: dict[str, list[float]] = {}
    for method in METHODS:
        for path in sorted(run.glob(f"{method}-0-*.json")):
            name = path.stem.removeprefix(f"{method}-0-")
            for metric in METRICS:
                found[f"{name}, {method}, {metric}"] = [
                    read(run / f"{method}-{seed}-{name}.json")["metrics"][metric]["value"]
                    for seed in SEEDS
                ]
    return found


def main(runs: Path, output: Path) -> None:
    """Write the figures of all finished settings."""
    figures = {}
    for results in sorted(runs.glob("*/results.json")):
        run = results.parent
        if all((run / f"diagnosis-{seed}.json").exists() for seed in SEEDS):
            figures[run.name] = collect_setting(run)
            shutil.copyfile(results, output / f"{run.name}.json")
    if decoding := collect_decoding(runs / "rows-20000"):
        figures["decoding"] = decoding
    for name, values in figures.items():
        print(name)
        for figure, each in values.items():
            scale = 1 if figure.endswith("update") else 100
            print(f"  {figure:45}{scale * fmean(each):8.2f}", [round(scale * x, 2) for x in each])
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
