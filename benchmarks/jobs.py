"""Time of a comparison with runs side by side, relative to runs one after another.

Run `python benchmarks/jobs.py --json jobs.json` on a quiet machine with at least two CPUs. Both
comparisons are `freerun compare digits` with the same small models, one thread for each run, in new
processes from start to end, and their results are checked to be the same. `speedup` is the time one
after another divided by the time of `--jobs 2`; it should be at least 1.5.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import parse, parser, ratio, write

SECONDS = ("seconds", "seconds_per_update", "time_relative_to_mle", "date", "command")
"""The keys of results.json that differ between two equal comparisons."""
OPTIONS = """
    --methods mle scheduled_sampling --seeds 2 --quiet --training.evaluate_every 1000000
    --task.train_size 1000 --task.dev_size 50 --task.test_size 50
    --model.hidden_size 64 --model.embedding_size 32
"""


def compare(output: Path, updates: int, jobs: int) -> float:
    """Run a comparison in a new process; return its seconds."""
    command = [sys.executable, "-m", "freerun", "compare", "digits", *OPTIONS.split()]
    command += ["--training.updates", str(updates), "--jobs", str(jobs), "--output", str(output)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - started


def read(output: Path) -> object:
    """Read results without times."""
    return _drop(json.loads((output / "results.json").read_text()))


def _drop(value: object) -> object:
    if isinstance(value, dict):
        return {name: _drop(inner) for name, inner in value.items() if name not in SECONDS}
    return list(map(_drop, value)) if isinstance(value, list) else value


def main() -> None:
    """Measure, and write the figures."""
    options = parser("the time of runs side by side, relative to runs one after another", rounds=1)
    arguments = parse(options)
    updates = 1200 if arguments.quick else 3000
    times: dict[str, list[float]] = {"in_turn": [], "side_by_side": []}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            outputs = {name: Path(folder, name) for name in times}
            for jobs, (name, output) in enumerate(outputs.items(), 1):
                times[name].append(compare(output, updates, jobs))
            if read(outputs["in_turn"]) != read(outputs["side_by_side"]):
                raise SystemExit("the results differ")
    medians = {f"seconds_{name}": statistics.median(values) for name, values in times.items()}
    write({**medians, "speedup": ratio(times, "in_turn", "side_by_side")}, arguments.json)


if __name__ == "__main__":
    main()
