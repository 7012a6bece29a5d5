"""Time of a comparison with runs side by side, relative to runs one after another.

Run `python benchmarks/jobs.py --json jobs.json` on a quiet machine with at least two CPUs; with
`--quick` it takes two to three minutes. Both comparisons are `freerun compare digits` with the same
small models, one thread for each run, in new processes from start to end, and their results are
checked to be the same. `speedup` is the time one after another divided by the time of `--jobs 2`;
it should be at least 1.5. What does not become faster is measured, too: `seconds_start_and_end` is
the part of the time one after another in which nothing is trained.

`two_threads` is the time of an update with one thread divided by that with two: where it is not
clearly above 1, one thread for each run is the right default.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import parse, parser, ratio, write

SECONDS = ("seconds", "seconds_per_update", "time_relative_to_mle", "date", "command")
"""The keys of results.json that differ between two equal comparisons."""
OPTIONS = """
    --methods mle scheduled_sampling --quiet --training.evaluate_every 1000000
    --task.train_size 1000 --task.dev_size 50 --task.test_size 50
    --model.hidden_size 64 --model.embedding_size 32
"""


def compare(output: Path, updates: int, jobs: int = 1, seeds: int = 2, threads: int = 1) -> float:
    """Run a comparison in a new process; return its seconds."""
    command = [sys.executable, "-m", "freerun", "compare", "digits", *OPTIONS.split()]
    command += ["--training.updates", str(updates), "--training.threads", str(threads)]
    command += ["--seeds", str(seeds), "--jobs", str(jobs), "--output", str(output)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - started


def read(output: Path) -> Any:
    """Read the results of a comparison."""
    return json.loads((output / "results.json").read_text())


def _drop(value: Any) -> Any:
    """Return results without times."""
    if isinstance(value, dict):
        return {name: _drop(inner) for name, inner in value.items() if name not in SECONDS}
    return list(map(_drop, value)) if isinstance(value, list) else value


def measure_update(results: Any) -> float:
    """Return the mean seconds of an update, over all methods."""
    entries = results["methods"].values()
    return statistics.mean(each["seconds_per_update"]["mean"] for each in entries)


def main() -> None:
    """Measure, and write the figures."""
    options = parser("the time of runs side by side, relative to runs one after another", rounds=1)
    arguments = parse(options)
    updates = 1000 if arguments.quick else 3000
    times: dict[str, list[float]] = {"in_turn": [], "side_by_side": [], "start_and_end": []}
    two_threads = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            one, two, threads = (Path(folder, name) for name in ("one", "two", "threads"))
            times["in_turn"].append(compare(one, updates))
            times["side_by_side"].append(compare(two, updates, jobs=2))
            compare(threads, updates // 5, seeds=1, threads=2)
            results = read(one)
            if _drop(results) != _drop(read(two)):
                raise SystemExit("the results differ")
            trained = sum(sum(each["seconds"]) for each in results["methods"].values())
            times["start_and_end"].append(times["in_turn"][-1] - trained)
            two_threads.append(measure_update(results) / measure_update(read(threads)))
    figures = {f"seconds_{name}": statistics.median(values) for name, values in times.items()}
    figures["speedup"] = ratio(times, "in_turn", "side_by_side")
    write({**figures, "two_threads": statistics.median(two_threads)}, arguments.json)


if __name__ == "__main__":
    main()
