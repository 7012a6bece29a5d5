"""The error by position of every method, from the files that run.sh wrote beside this one."""

import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
NAMES = {
    "mle": "maximum likelihood",
    "ss": "scheduled sampling, two passes",
    "dss": "differentiable, two passes",
    "searnn": "SEARNN",
}

figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, label in NAMES.items():
    runs = [json.loads((HERE / f"{name}-{seed}.json").read_text()) for seed in range(3)]
    counts = runs[0]["count_by_position"]
    shown = [i for i, count in enumerate(counts) if count >= 100]
    errors = [[100 * run["error_by_position"][i] for i in shown] for run in runs]
    means = [statistics.mean(column) for column in zip(*errors, strict=True)]
    spread = [statistics.stdev(column) for column in zip(*errors, strict=True)]
    axes.errorbar([i + 1 for i in shown], means, spread, label=label, capsize=2, marker="o", ms=3)
axes.set(xlabel="position in the answer", ylabel="wrong characters, %", ylim=(0, None))
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
figure.savefig(HERE / "positions.png", dpi=150)
