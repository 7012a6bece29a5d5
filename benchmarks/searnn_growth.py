"""Measure how time and memory of a SEARNN update grow with the size of the search.

Run `python benchmarks/searnn_growth.py --json growth.json --png growth.png`. One dimension grows at
a time. Every point is measured in a separate process: the fastest of several updates, and the
increase of the process's peak memory in the first one.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import replace

import psutil
import torch
from matplotlib.figure import Figure
from roll_outs import Shape, idle, updates, watched
from timing import parse, parser, seconds, write

BASE = Shape(batch=16, length=40, source_words=10_000, words=10_000, cells=10, tokens=15)
Growing = dict[str, tuple[str, list[int]]]
GROWING: Growing = {
    "length": ("length of target", [10, 20, 40, 80]),
    "tokens": ("tokens per cell", [4, 15, 30, 60]),
    "cells": ("cells per sentence", [5, 10, 20, 40]),
    "words": ("words of the vocabulary", [1_000, 10_000, 30_000, 60_000]),
}
CPU = torch.device("cpu")


def measure(shape: Shape, rounds: int) -> dict[str, float]:
    """Measure an update of one shape in this process."""
    torch.manual_seed(0)
    policy = shape.policy()
    run = updates(policy, idle(policy), [shape.sentences(CPU)], shape.method())
    before = psutil.Process().memory_info().rss
    with watched(CPU) as seen:
        times = [seconds(run, CPU)]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times += [seconds(run, CPU) for _ in range(rounds - 1)]
    return {"seconds": min(times), "mb": (after - before) / 1e6, "steps": sum(seen.rows)}


def draw(figures: dict[str, float | str], growing: Growing) -> Figure:
    """Draw time above memory, with one column per dimension."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    rows = [("seconds", "seconds per update"), ("mb", "memory of the update [MB]")]
    for column, (name, (text, values)) in enumerate(growing.items()):
        for row, (kind, label) in enumerate(rows):
            axes = figure.add_subplot(2, 4, 4 * row + column + 1)
            found = [float(figures[f"{name}_{value}_{kind}"]) for value in values]
            axes.plot(values, found, "o-", color="#0072B2")
            axes.set(xlim=(0, 1.05 * values[-1]), ylim=(0, 1.1 * max(found)))
            axes.set_xlabel(text if row else "")
            axes.set_ylabel("" if column else label)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Measure every point, and write and draw the figures."""
    accepted = parser(__doc__.splitlines()[0], rounds=3)
    accepted.add_argument("--png", metavar="FILE", help="the file of the plot")
    accepted.add_argument("--point", help=argparse.SUPPRESS)
    options = parse(accepted)
    if options.point is not None:
        shape = replace(BASE, **json.loads(options.point))
        print(json.dumps(measure(shape, options.rounds)))
        return
    figures: dict[str, float | str] = {}
    growing = GROWING
    if options.quick:  # the least and the next point of each
        growing = {name: (text, values[:2]) for name, (text, values) in GROWING.items()}
    for name, (_, values) in growing.items():
        for value in values:
            point = ["--point", json.dumps({name: value}), "--threads", str(options.threads)]
            point += ["--rounds", str(options.rounds)]
            command = [sys.executable, __file__, *point]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
            for kind, figure in json.loads(output).items():
                figures[f"{name}_{value}_{kind}"] = float(f"{figure:.4g}")
    write(figures, options.json)
    if options.png is not None:
        draw(figures, growing).savefig(options.png, dpi=120)


if __name__ == "__main__":
    main()
