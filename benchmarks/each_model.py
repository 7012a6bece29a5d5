"""Run a benchmark with several models, on every available device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from searnn import peak
from timing import devices, parse, parser, write
from transformers.utils import logging

Figures = dict[str, float]


def benchmark(
    summary: str,
    kinds: Iterable[str],
    measure: Callable[[str, int, torch.device, bool], Figures],
    greater: Callable[[str], bool],
) -> None:
    """Measure each model, and print and write the figures, and the worst of each ratio.

    Args:
        summary: one line on what is measured.
        kinds: the models.
        measure: a function from a kind, the rounds, the device and `quick` to the figures.
        greater: whether higher values of a ratio of this name are better.
    """
    options = parse(parser(summary, rounds=9, device=True))
    logging.set_verbosity_error()
    figures: dict[str, float | str] = {"threads": options.threads, "torch": torch.__version__}
    for device, suffix in devices(options):
        each = {}
        for kind in kinds:
            torch.manual_seed(0)
            each[kind] = measure(kind, options.rounds, device, options.quick)
        for key in dict.fromkeys(key for found in each.values() for key in found):
            values = {kind: found[key] for kind, found in each.items() if key in found}
            if "_vs_" in key:
                worst = min if greater(key) else max
                figures[f"{key}{suffix}"] = worst(values.values())
            for kind, value in values.items():
                figures[f"{key}_{kind}{suffix}"] = float(f"{value:.4g}")
        figures[f"peak_gb{suffix}"] = float(f"{peak(device):.3g}")
    write(figures, options.json)
