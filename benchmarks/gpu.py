"""Run the tests that need a GPU, and the benchmarks on it.

`make gpu` is this. On a machine without a GPU, `python benchmarks/gpu.py --device cpu --quick`
checks that it runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import parse, parser, save

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ("searnn", "huggingface", "sequence_match", "recurrent", "diagnose")
"""Those that measure on a GPU, the most wanted first."""


def run(*command: str, log: Path) -> bool:
    """Run Python on this source tree; print the end of what it wrote if it fails.

    Returns:
        Whether it ended well.
    """
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with log.open("w") as file:
        done = subprocess.run(  # noqa: S603  # our own files
            [sys.executable, *command],
            cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if done.returncode:
        print(log.read_text()[-3000:], flush=True)
    return done.returncode == 0


def main() -> int:
    """Run all of them, and write the figures after each benchmark; return 1 if something failed."""
    options = parser(__doc__.splitlines()[0], rounds=5, device=True)
    options.add_argument("--no_tests", action="store_true", help="run only the benchmarks")
    options.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    chosen = parse(options)
    device = chosen.device or "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("this machine has no GPU that torch can use; --device cpu --quick tries the script")
        return 2
    figures: dict[str, float | str] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        if not chosen.no_tests:
            tests = ("-m", "pytest", "-q", "-m", "cuda", "tests/test_cuda.py")
            failed += [] if run(*tests, log=log) else ["tests"]
            print("tests:", log.read_text().strip().splitlines()[-1], flush=True)
        for name in chosen.only:
            start, found = time.monotonic(), Path(folder, f"{name}.json")
            settings = ["--device", device, "--json", str(found), "--threads", str(chosen.threads)]
            settings += ["--quick"] if chosen.quick else ["--rounds", str(chosen.rounds)]
            if not run(f"benchmarks/{name}.py", *settings, log=log):
                failed.append(name)
                continue
            values = json.loads(found.read_text())
            figures |= {f"{name}/{key}": value for key, value in values.items() if key != "torch"}
            figures[f"{name}/minutes"] = round((time.monotonic() - start) / 60, 2)
            print(f"{name}: {figures[f'{name}/minutes']} minutes", flush=True)
            if chosen.json:
                save(figures, chosen.json)
    print(json.dumps(figures, indent=2))
    print(f"failed: {', '.join(failed)}" if failed else "all ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
