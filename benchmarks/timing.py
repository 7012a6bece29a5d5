"""Options, side-by-side timing and output of all benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def parser(summary: str, *, rounds: int, device: bool = False) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark.

    Args:
        summary: one line on what is measured.
        rounds: the default number of rounds.
        device: whether there is an option to choose the device; see `devices`.
    """
    options = argparse.ArgumentParser(description=summary)
    options.add_argument("--json", metavar="FILE", help="the file to write the figures to")
    options.add_argument(
        "--threads", type=int, default=2, help="the number of CPU threads (default 2)"
    )
    if device:
        options.add_argument(
            "--device", choices=("cpu", "cuda"), help="the device (default: all of this machine)"
        )
    options.add_argument("--rounds", type=int, default=rounds, help=f"rounds (default {rounds})")
    options.add_argument(
        "--quick",
        action="store_true",
        help="smaller shapes and 2 rounds, in at most 3 minutes on 2 cores, to check that it runs; "
        "the figures are not comparable to those of the documentation",
    )
    return options


def parse(options: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the options of this process, and set the number of threads."""
    found = options.parse_args()
    if found.quick:
        found.rounds = min(found.rounds, 2)
    torch.set_num_threads(found.threads)
    return found


def devices(options: argparse.Namespace) -> list[tuple[torch.device, str]]:
    """Return the devices to measure on, each with what its keys end in."""
    names = [options.device] if options.device else ["cpu", "cuda"]
    return [
        (torch.device(name), "" if name == "cpu" else f"_{name}")
        for name in names
        if options.device or name == "cpu" or torch.cuda.is_available()
    ]


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the wall-clock seconds of one call, with the device synchronized before and after."""
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    return time.perf_counter() - start


def side_by_side(
    runs: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the seconds of each run in every round, after one warm-up round.

    In a round each runs once, so that a busy machine slows down all of them equally.
    """
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return times


def ratio(times: Mapping[str, list[float]], name: str, base: str) -> float:
    """Return the median over rounds of the time of `name` divided by that of `base`."""
    pairs = zip(times[name], times[base], strict=True)
    return round(statistics.median(one / other for one, other in pairs), 3)


def write(figures: Mapping[str, float | str], path: str | None) -> None:
    """Print the figures, and write them as one flat JSON object to `path`, if given."""
    print(json.dumps(dict(figures), indent=2))
    if path is not None:
        save(figures, path)


def save(figures: Mapping[str, float | str], path: str) -> None:
    """Write the figures as one flat JSON object, as a whole."""
    folder = Path(path).resolve().parent
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        file.write(json.dumps(dict(figures), indent=2) + "\n")
    os.replace(file.name, path)
