"""Collect what `diagnose` said of MLE beside what other methods gained, for every setting.

    python docs/results/diagnosis/collect.py runs/diagnosis docs/results/diagnosis

reads the folders that run.sh has written, prints the table, and writes diagnosis.json and .png.
Runs that are not finished are left out.
"""

from __future__ import annotations

import json
import random
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
        if not (results.parent / "scheduled_sampling.json").is_file():
            continue
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
                    add(
                        name.partition(":")[0],
                        test["mle"][metric]["mean"] - test[name][metric]["mean"],
                    )
        for name in ("exact_match", "bleu", "chunk_f1"):
            if name in test["mle"]:
                add(
                    f"{name}_gained",
                    test["scheduled_sampling"][name]["mean"] - test["mle"][name]["mean"],
                )
    return found


MARKERS = "osD^v<>Ph*X"
DRAWS = 2_000


def correlate(found: dict[str, dict[str, list[float]]], one: str, other: str) -> dict[str, float]:
    """Return Spearman's rank correlation of two figures over the settings that have both.

    Figures are means over seeds. The 95 % interval is from a bootstrap over settings, and over the
    seeds of each setting that was drawn.
    """
    rows = [
        list(zip(values[one], values[other], strict=True))
        for values in found.values()
        if one in values and other in values
    ]

    def rank(rows: list[list[tuple[float, float]]]) -> float:
        means = [[statistics.fmean(column) for column in zip(*row, strict=True)] for row in rows]
        return float(spearmanr(*zip(*means, strict=True)).statistic)

    draw = random.Random(0)  # noqa: S311
    drawn = sorted(
        rank([draw.choices(row, k=len(row)) for row in draw.choices(rows, k=len(rows))])
        for _ in range(DRAWS)
    )
    low, high = drawn[DRAWS // 40], drawn[-DRAWS // 40 - 1]
    return {"value": rank(rows), "low": low, "high": high, "settings": len(rows)}


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the gain in tokens by the excess, one point per seed."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    order = sorted(found, key=lambda setting: -statistics.fmean(found[setting]["excess"]))
    for i, setting in enumerate(order):
        values = found[setting]
        axes.plot(
            values["excess"],
            values["tokens_gained"],
            MARKERS[i],
            color=f"C{i}",
            markersize=6,
            label=setting,
        )
    figure.legend(loc="outside right center", frameon=False)
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
            f"{statistics.fmean(each):.2f} ({min(each):.2f} … {max(each):.2f})"
            for each in (values[name] for name in names)
        ]
        print(setting, len(values["excess"]), *cells, sep=" | ")
    correlations = {
        f"{one}, {other}": correlate(found, one, other)
        for one in ("excess", "share", "after_reference", "after_own", "amplification")
        for other in ("tokens_gained", "scheduled_sampling")
    }
    for pair, each in correlations.items():
        interval = f"[{each['low']:.2f}, {each['high']:.2f}]"
        print(f"{pair}: {each['value']:.2f} {interval} over {each['settings']} settings")
    text = json.dumps({"settings": found, "rank_correlations": correlations}, indent=1)
    (output / "diagnosis.json").write_text(text + "\n")
    draw(found, output / "diagnosis.png")


if __name__ == "__main__":
    main()
