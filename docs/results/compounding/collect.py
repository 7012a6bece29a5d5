"""Diagnose the models of finished comparisons on dev, and print what scheduled sampling gained.

    python docs/results/compounding/collect.py runs/compounding docs/results/compounding

writes diagnosis.json: of every comparison, method and seed, the error after own and after right
prefixes, the excess, and the least error of all evaluations.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

from freerun.study import diagnose

FIGURES = ("after_own", "after_reference", "excess")


def collect(results: Path, known: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the figures of every run of a comparison; those that are known stay.

    Args:
        results: its results.json.
        known: figures by run, such as mle/seed-0.
    """
    contents = json.loads(results.read_text("utf-8"))
    metric = contents["task"]["metric"]
    for method, variant in contents["methods"].items():
        for seed, curve in zip(contents["seeds"], variant["learning_curves"], strict=True):
            run = f"{method}/seed-{seed}"
            if run not in known:
                found = diagnose(results.parent / run).measurement
                known[run] = {name: getattr(found, name).value for name in FIGURES}
                known[run]["best"] = min(point[metric] for point in curve)
    return known


def main(runs: Path, output: Path) -> None:
    """Diagnose all finished comparisons, and print a row for every method of each."""
    path = output / "diagnosis.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for results in sorted(runs.glob("*/results.json")):
        name = results.parent.name
        found[name] = collect(results, found.get(name, {}))
        path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    for name, figures in found.items():
        for method in dict.fromkeys(run.rpartition("/")[0] for run in figures):
            own = [each for run, each in figures.items() if run.startswith(f"{method}/")]
            means = (f"{key} {100 * fmean(each[key] for each in own):.2f}" for key in own[0])
            print(name, method, *means, sep="  ")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
