"""Collect the figures of the finished runs of run.sh, also if the comparison was interrupted.

    python docs/results/language_model/collect.py runs/language_model/dates figures.json

prints, for every method, the exact matches and character errors on test by seed, in percent, and
writes them with the metrics on dev.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from rapidfuzz.distance import Levenshtein


def read_run(folder: Path) -> dict[str, float]:
    """Return the metrics of a run: those on test by its outputs, and all others on dev."""
    lines = (folder / "outputs.jsonl").read_text("utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    edits = sum(Levenshtein.distance(row["output"], row["reference"]) for row in rows)
    found = {
        "exact_match": fmean(row["output"] == row["reference"] for row in rows),
        "character_error": edits / sum(len(row["reference"]) for row in rows),
    }
    dev = json.loads((folder / "freerun.json").read_text("utf-8"))["results"]["dev"]
    return found | {f"dev {name}": value for name, value in dev.items()}


def main(runs: Path, output: Path) -> None:
    """Write the figures of all finished runs."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted(runs.glob("*/seed-*/outputs.jsonl")):
        figures.setdefault(path.parts[-3], {})[path.parts[-2]] = read_run(path.parent)
    for method, seeds in figures.items():
        for metric in ("exact_match", "character_error"):
            values = ", ".join(f"{100 * each[metric]:.2f}" for each in seeds.values())
            print(method, metric, values, sep="\t")
    output.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
