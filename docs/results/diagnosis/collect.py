"""Collect what `diagnose` said of MLE beside what other methods gained, for every setting.

    python docs/results/diagnosis/collect.py runs/diagnosis docs/results/diagnosis

reads the folders that run.sh has written, prints the table, and writes diagnosis.json and .png.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from matplotlib.figure import Figure
from scipy.stats import spearmanr

ERRORS = ("hamming_error", "character_error")
"""The metric of a gain is the first of these that a task has; all are fractions of symbols."""


def collect(runs: Path) -> dict[str, dict[str, list[float]]]:
    """Return by setting: excess, error after correct prefixes and gains, one value per seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for results in sorted(runs.glob("*/results.json")):
        setting, _, _ = results.parent.name.rpartition("-")
        contents = json.loads(results.read_text())
        test = {name: entry["test"] for name, entry in contents["methods"].items()}
        read = {
            name: json.loads((results.parent / f"{name}.json").read_text())
            for name in ("mle", "scheduled_sampling")
        }
        values = found.setdefault(setting, {})

        def add(name: str, value: float, values: dict[str, list[float]] = values) -> None:
            values.setdefault(name, []).append(100 * value)

        for figure in ("excess", "share", "after_reference", "after_own"):
            add(figure, read["mle"][figure]["value"])
        values.setdefault("amplification", []).append(read["mle"]["amplification"]["value"])
        add("excess_after", read["scheduled_sampling"]["excess"]["value"])
        add(
            "tokens_gained",
            read["mle"]["after_own"]["value"] - read["scheduled_sampling"]["after_own"]["value"],
        )
        metric = next((name for name in ERRORS if name in test["mle"]), None)
        if metric is not None:
            for name in test:
                if name != "mle":
                    add(name, test["mle"][metric]["mean"] - test[name][metric]["mean"])
        for name in ("exact_match", "bleu", "chunk_f1"):
            if name in test["mle"]:
                add(
                    f"{name}_gained",
                    test["scheduled_sampling"][name]["mean"] - test["mle"][name]["mean"],
                )
    return found


def correlate(found: dict[str, dict[str, list[float]]], one: str, other: str) -> tuple[float, int]:
    """Return Spearman's rank correlation of two figures over the settings that have both."""
    pairs = [
        (statistics.fmean(values[one]), statistics.fmean(values[other]))
        for values in found.values()
        if one in values and other in values
    ]
    return float(spearmanr(*zip(*pairs, strict=True)).statistic), len(pairs)


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the gain in tokens by the excess, one point per seed."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for setting, values in found.items():
        (points,) = axes.plot(values["excess"], values["tokens_gained"], "o", markersize=4)
        place = statistics.fmean(values["excess"]), statistics.fmean(values["tokens_gained"])
        axes.annotate(
            setting, place, xytext=(5, 4), textcoords="offset points", color=points.get_color()
        )
    axes.axhline(0, color="#999999", linewidth=0.6)
    axes.set_xlabel("excess of MLE on dev (points of tokens)")
    axes.set_ylabel("gain of scheduled sampling (points of tokens)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print the table, and write the figures and the plot."""
    runs, output = map(Path, sys.argv[1:])
    found = collect(runs)
    names = ("excess", "share", "after_reference", "excess_after", "tokens_gained")
    names += ("scheduled_sampling", "differentiable_scheduled_sampling")
    print("setting", "seeds", *names, sep=" | ")
    order = sorted(found, key=lambda setting: -statistics.fmean(found[setting]["excess"]))
    for setting in order:
        values = found[setting]
        cells = [
            f"{statistics.fmean(values[name]):.2f}" if name in values else "" for name in names
        ]
        print(setting, len(values["excess"]), *cells, sep=" | ")
    correlations = {
        f"{one}, {other}": correlate(found, one, other)
        for one in ("excess", "share", "after_reference", "after_own", "amplification")
        for other in ("tokens_gained", "scheduled_sampling")
    }
    for pair, (value, count) in correlations.items():
        print(f"{pair}: rank correlation {value:.2f} over {count} settings")
    text = json.dumps({"settings": found, "rank_correlations": correlations}, indent=1)
    (output / "diagnosis.json").write_text(text + "\n")
    draw(found, output / "diagnosis.png")


if __name__ == "__main__":
    main()
