"""Read the learning curves on test of all runs, those that were stopped early included.

    python docs/results/ocr-published/collect.py runs/ocr-published curves.json

prints the last and the least letter error of each, in percent, and writes all evaluations.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

METRICS = ("letter_error", "early_ends")


def read_curve(run: Path) -> list[dict[str, float]]:
    """Return the evaluations of a run: those of its comparison, or of its newest checkpoint.

    A run without either has none.
    """
    results = run.parents[1] / "results.json"
    if results.exists():
        (variant,) = json.loads(results.read_text("utf-8"))["methods"].values()
        (curve,) = variant["learning_curves"]
        return [{name: point[name] for name in ("update", *METRICS)} for point in curve]
    states = run.glob("checkpoint-*/trainer_state.json")
    newest = max(states, key=lambda path: int(path.parent.name.partition("-")[2]), default=None)
    if newest is None:
        return []
    history = json.loads(newest.read_text("utf-8"))["log_history"]
    return [
        {"update": each["step"], **{name: each[f"eval_{name}"] for name in METRICS}}
        for each in history
        if "eval_letter_error" in each
    ]


def main(runs: Path, output: Path) -> None:
    """Write the curves of all runs."""
    curves = {}
    for run in sorted(runs.glob("*/*/seed-0")):
        name = run.parent.parent.name
        if not (curve := read_curve(run)):
            continue
        curves[name] = curve
        last, least = curve[-1], min(curve, key=lambda point: point["letter_error"])
        for what, point in (("last", last), ("least", least)):
            print(name, what, point["update"], f"{100 * point['letter_error']:.2f}", sep="\t")
    output.write_text(json.dumps(curves, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
