"""Time and memory to read a file of many rows of which few are trained on.

Run `python benchmarks/reading.py --json reading.json`. A file of 1,000,000 prompts and completions
is read by the task pairs with `train_size` 1,000: read, checked, split and encoded, in a new Python
process for each format. Times are CPU seconds without imports; memory is the maximum of the whole
process in MB, imports included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import parse, parser, write

READ = """
import json, resource, sys, time
from freerun.tasks import Pairs, load_data
start = time.process_time()
data = load_data(Pairs(sys.argv[1], train_size=1000))
assert len(data.train) == 1000
seconds = time.process_time() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def write_rows(folder: str, suffix: str, count: int) -> str:
    """Write a file of rows, and return its path."""
    path = Path(folder, f"rows{suffix}")
    separator = {".csv": ",", ".tsv": "\t"}.get(suffix)
    with path.open("w", encoding="utf-8") as file:
        if separator is not None:
            file.write(f"prompt{separator}completion\n")
        for i in range(count):
            row = {"prompt": f"What is {i} + {7 * i % 1000}?", "completion": f" {i + 7 * i % 1000}"}
            line = json.dumps(row) if separator is None else separator.join(row.values())
            file.write(f"{line}\n")
    return str(path)


def main() -> None:
    """Read a file of each format."""
    options = parse(parser(__doc__ or "", rounds=1))
    count = 20_000 if options.quick else 1_000_000
    figures: dict[str, float | str] = {"rows": count}
    for suffix in (".jsonl", ".csv", ".tsv"):
        with tempfile.TemporaryDirectory() as folder:
            path = write_rows(folder, suffix, count)
            command = [sys.executable, "-c", READ, path]
            found = subprocess.run(  # noqa: S603  (ourselves)
                command, check=True, capture_output=True, text=True
            )
        seconds, memory = json.loads(found.stdout)
        figures[f"{suffix[1:]}_seconds"], figures[f"{suffix[1:]}_megabytes"] = seconds, memory
    write(figures, options.json)


if __name__ == "__main__":
    main()
