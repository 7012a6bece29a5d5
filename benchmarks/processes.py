"""Time an update in two processes relative to one, on the CPU with one thread each.

Run `python benchmarks/processes.py --json processes.json` on a quiet machine with at least two
CPUs. Each run is `freerun train digits` with a batch of the same size, in new processes that a
launcher starts with a configuration of `examples/accelerate`; results of one process and of two are
checked to agree. `METHOD_ddp` and `METHOD_fsdp2` are the time of an update in one process divided
by that in two: 2 would be ideal.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from timing import parse, parser, ratio, write

CONFIGURATIONS = Path(__file__).resolve().parents[1] / "examples" / "accelerate"
METHODS = {
    "mle": "mle",
    "scheduled_sampling": "scheduled_sampling:schedule=constant,k=0.5",
    "searnn": "searnn:token_choice=uniform,tokens=5,cells=4",
}
OPTIONS = """
    --quiet --training.threads 1 --training.batch_size 64 --training.evaluate_every 1000000
    --task.train_size 1000 --task.dev_size 20 --task.test_size 20
"""


def train(method: str, kind: str, updates: int, hidden: int) -> Any:
    """Train in processes that a launcher starts; return the results.

    Args:
        method: the method.
        kind: the name of a configuration, or `one` for one process.
        updates: the number of updates.
        hidden: the number of hidden units.
    """
    launcher = ["-m", "accelerate.commands.launch", "--config_file"]
    launcher += [str(CONFIGURATIONS / f"{kind}.yaml")]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *([] if kind == "one" else launcher), "-m", "freerun", "train"]
        command += ["digits", *OPTIONS.split(), "--method", METHODS[method], "--output", folder]
        command += ["--model.hidden_size", str(hidden), "--training.updates", str(updates)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603
        return json.loads(Path(folder, "freerun.json").read_text())["results"]


def main() -> None:
    """Measure, and print and write the figures."""
    options = parser(__doc__.splitlines()[0], rounds=3)
    options.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    given = parse(options)
    updates, hidden, rounds = (4, 16, 1) if given.quick else (40, 256, given.rounds)
    methods = given.methods[:1] if given.quick else given.methods
    figures: dict[str, float | str] = {}
    for method in methods:
        times: dict[str, list[float]] = {"one": [], "ddp": [], "fsdp2": []}
        for _ in range(rounds):
            losses = []
            for kind in times:
                found = train(method, kind, updates, hidden)
                times[kind].append(found["seconds_per_update"])
                losses.append(found["dev"]["teacher_forced_loss"])
            if max(losses) - min(losses) > 1e-2 * losses[0]:
                raise SystemExit(f"the results of {method} differ: {losses}")
        for kind in ("ddp", "fsdp2"):
            figures[f"{method}_{kind}"] = ratio(times, "one", kind)
        figures[f"{method}_seconds"] = float(f"{statistics.median(times['one']):.4g}")
    write(figures, given.json)


if __name__ == "__main__":
    main()
