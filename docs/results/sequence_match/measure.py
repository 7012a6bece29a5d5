"""Measure runs with errors inserted during decoding, and compare variants over seeds.

Run `python docs/results/sequence_match/measure.py COMPARISON … --json FILE` with the folders of
`freerun compare`. Every trained model, VARIANT/seed-N, is decoded greedily, without errors and with
tokens replaced at the rate 0.1; the places of the errors are the same for all. With `--trials`, the
trials of tuning are measured on dev instead.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from freerun.evaluation import Decoding, evaluate
from freerun.evaluation.intervals import estimate_difference
from freerun.training import load_policy
from freerun.training.tasks import load_examples

RATES = (0.0, 0.1)
METRICS = ("exact_match", "backspace_rate", "rewritten", "right_after", "withdrawn")

Found = dict[str, dict[int, dict[str, Any]]]


def find_runs(folders: Sequence[Path], *, trials: bool) -> Iterator[tuple[str, int, Path]]:
    """Yield the variant, number and folder of every finished run."""
    pattern = "tuning/*/trial-*" if trials else "*/seed-*"
    for folder in folders:
        for run in sorted(folder.glob(pattern)):
            if (run / "model.safetensors").exists():
                yield run.parent.name, int(run.name.rpartition("-")[2]), run


def measure(run: Path, split: str) -> dict[str, Any]:
    """Return the settings of a run, and exact match and the use of backspaces in percent."""
    policy, codec = load_policy(run)
    task, examples, _ = load_examples(str(run), codec, split, None)
    record = json.loads((run / "freerun.json").read_text(encoding="utf-8"))
    (method,) = record["methods"].values()
    found = {"learning_rate": record["training"]["learning_rate"], **method["settings"]}
    for rate in RATES:
        metrics = evaluate(policy, task, codec, examples, decoding=Decoding(noise=rate)).metrics
        found[f"errors {rate:g}"] = {
            name: round(100 * metrics[name], 2) for name in METRICS if name in metrics
        }
    return found


def compare(found: Found, base: str) -> None:
    """Print exact match, and differences to a variant with Student's 95 % intervals."""
    for name, runs in found.items():
        cells = [name]
        for rate in (f"errors {rate:g}" for rate in RATES):
            values = {seed: run[rate]["exact_match"] for seed, run in runs.items()}
            cells.append(f"{sum(values.values()) / len(values):.1f}")
            others = {seed: run[rate]["exact_match"] for seed, run in found[base].items()}
            gains = [values[seed] - others[seed] for seed in values.keys() & others.keys()]
            if name != base and len(gains) > 1:
                gain = estimate_difference(gains, None)
                cells.append(f"{gain['mean']:+.1f} [{gain['low']:.1f}, {gain['high']:.1f}]")
        print(" | ".join(cells))


def main() -> None:
    """Measure all runs, write the figures, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--trials", action="store_true")
    options = parser.parse_args()
    found: Found = {}
    for name, number, run in find_runs(options.folders, trials=options.trials):
        found.setdefault(name, {})[number] = measure(run, "dev" if options.trials else "test")
        print(name, number, found[name][number], flush=True)
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if not options.trials:
        for base in ("mle", "behavior_cloning"):
            compare(found, base)


if __name__ == "__main__":
    main()
