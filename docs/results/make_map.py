"""Write the map of all comparisons into README.md and map.png, and the list of tables in tables.md.

    make results

reads every results.json of `freerun compare` in this folder, and tables.yaml, which adds what they
do not say and the tables of other scripts. A results.json that tables.yaml does not name is added
there with the last commit before its date.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from freerun.evaluation import Estimate, estimate
from freerun.report.labels import label, scale

HERE = Path(__file__).parent
INDEX = "tables.yaml"
START, END = "<!-- map, by make results -->", "<!-- end of map -->"
COLORS = {"better": "#7DB7E0", "level": "#E6E6E6", "worse": "#EE9A6B"}


@dataclass
class Setting:
    """What the methods of one setting gain over maximum likelihood.

    Args:
        title: its name.
        page: the page about it.
        metric: the metric, in words.
        equal: what is equal for all methods, `updates` or `time`.
        excess: the excess that `freerun diagnose` measures for maximum likelihood, in points.
        gains: for every method the gain with every seed, in points; above zero is better.
        known: for methods whose gains by seed were not kept, the estimate of their page.
    """

    title: str
    page: str
    metric: str
    equal: str = "updates"
    excess: float | None = None
    gains: dict[str, dict[int, float]] = field(default_factory=dict)
    known: dict[str, Estimate] = field(default_factory=dict)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The mean gains of the methods with several seeds, and Student's 95 % intervals."""
        found = {name: list(map(float, gains.values())) for name, gains in self.gains.items()}
        several = {name: estimate(gains, None) for name, gains in found.items() if len(gains) > 1}
        return several | self.known

    @property
    def name(self) -> str:
        """The title, with what is equal unless that is the number of updates."""
        return self.title + ("" if self.equal == "updates" else f", equal {self.equal}")


@dataclass(frozen=True)
class Table:
    """Where the figures of a table come from."""

    title: str
    page: str
    data: str
    date: str
    commit: str
    hours: float | None
    command: str


def judge(found: Estimate) -> str:
    """Return whether an interval is above zero, around it, or below.

    Gains that are equal with every seed are rounded ones, which do not tell their spread.
    """
    low, high = found["low"], found["high"]
    if low is None or high is None or low == high:
        return "level"
    return "better" if low > 0 else "worse" if high < 0 else "level"


def name_column(variant: Mapping[str, Any]) -> str:
    """Return the name of a method, with what makes it another method."""
    method, settings = variant["method"], variant["settings"]
    if method == "mle":
        return "mle, label smoothing"
    if method == "differentiable_scheduled_sampling":
        hard, relaxation = settings["straight_through"], settings["relaxation"].replace("_", " ")
        hard = settings["through"] if hard is None else hard
        return f"dss, {'straight-through' if hard else relaxation}"
    if method == "sequence_match" and not settings["backspace"]:
        return "sequence_match, no backspace"
    if method == "reinforce":
        count = settings["samples"]
        return f"reinforce, {count} sample{'s' * (count > 1)}"
    return str(method)


def read_index(folder: Path) -> dict[str, Any]:
    """Return tables.yaml, to which files that it does not name are added first."""
    path = folder / INDEX
    index: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    index["results"] = index.get("results") or {}
    for name, results in find_results(folder):
        if name not in index["results"]:
            git = ["git", "log", "-1", f"--before={results['date']}", "--format=%h"]
            found = subprocess.run(  # noqa: S603
                git, cwd=folder, capture_output=True, text=True, check=False
            )
            commit = found.stdout.strip()
            index["results"][name] = {"commit": commit}
            with path.open("a", encoding="utf-8") as file:
                file.write(f"  {name}: {{commit: '{commit}'}}\n")
    return index


def find_results(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the results of every comparison and their path."""
    for path in sorted(folder.rglob("*.json")):
        contents = json.loads(path.read_text("utf-8"))
        if isinstance(contents.get("methods"), dict):
            yield path.relative_to(folder).as_posix(), contents


def read_gains(
    results: Mapping[str, Any], bases: Sequence[Mapping[str, Any]]
) -> dict[str, dict[int, float]]:
    """Return the gain of every method of a comparison over the baseline with the same seed.

    Args:
        results: the comparison; of several variants of a method, the first counts.
        bases: the comparisons that have the baseline.
    """
    metric = results["task"]["metric"]
    sign = scale(metric) * (1 if results["task"]["greater_is_better"] else -1)
    baseline: dict[int, float] = {}
    for each in bases:
        values = each["methods"][each["base"]]["test"][metric]["values"]
        baseline |= dict(zip(each["seeds"], values, strict=True))
    found: dict[str, dict[int, float]] = {}
    for name, variant in results["methods"].items():
        if name != results["base"] and name_column(variant) not in found:
            values = zip(results["seeds"], variant["test"][metric]["values"], strict=True)
            gains = {seed: sign * (value - baseline[seed]) for seed, value in values}
            found[name_column(variant)] = gains
    return found


def collect(folder: Path) -> tuple[list[Setting], list[Table]]:
    """Return all settings, those with the largest excess first, and all tables."""
    index, all_results = read_index(folder), dict(find_results(folder))
    settings: dict[tuple[str, str], Setting] = {}
    tables = []

    def add(setting: Setting, gains: Mapping[str, Mapping[int, float]]) -> None:
        known = settings.setdefault((setting.title, setting.equal), setting)
        known.excess = setting.excess if known.excess is None else known.excess
        for name, values in gains.items():
            known.gains[name] = {**values, **known.gains.get(name, {})}

    for path, entries in index["results"].items():  # the first page of a setting is linked
        if (results := all_results.get(path)) is None:
            continue
        for entry in entries if isinstance(entries, list) else [entries]:
            title = entry.get("title", path.removesuffix("/results.json").removesuffix(".json"))
            page, metric = entry.get("page", path), results["task"]["metric"]
            equal = "updates" if results["training"]["budget"] is None else "time"
            bases = [all_results[base] for base in entry.get("base", [path])]
            if entry.get("map", True) and all(base["base"] for base in bases):
                equal = entry.get("equal", equal)
                setting = Setting(title, page, label(metric), equal, entry.get("excess"))
                add(setting, read_gains(results, bases))
        tables.append(describe(title, page, results, entry["commit"]))
    for entry in index.get("pages") or []:
        tables.append(Table(**{key: entry.get(key) for key in Table.__annotations__}))
        for setting, gains in read_page(folder, entry):
            add(setting, gains)
    order = sorted(
        (each for each in settings.values() if each.estimates),
        key=lambda each: (each.excess is None, -(each.excess or 0), each.title),
    )
    return order, sorted(tables, key=lambda table: (table.date, table.title))


def read_page(
    folder: Path, entry: Mapping[str, Any]
) -> Iterator[tuple[Setting, dict[str, dict[int, float]]]]:
    """Yield the settings of a table that `freerun compare` did not write.

    Its gains stand in tables.yaml, or in the file of docs/results/diagnosis/collect.py.
    """
    for each in entry.get("gains", []):
        equal, excess = each.get("equal", "updates"), each.get("excess")
        setting = Setting(each["title"], entry["page"], each["metric"], equal, excess)
        for name, (mean, low, high) in each.get("estimates", {}).items():
            setting.known[name] = Estimate(mean=mean, low=low, high=high, std=None, values=[])
        yield setting, {name: dict(enumerate(v)) for name, v in each.get("methods", {}).items()}
    if "file" in entry:
        columns = {
            "scheduled_sampling": "scheduled_sampling",
            "differentiable_scheduled_sampling": "dss, soft argmax",
        }
        measured = json.loads((folder / entry["file"]).read_text("utf-8"))["settings"]
        for name, figures in measured.items():
            title, metric = entry["titles"][name]
            setting = Setting(title, entry["page"], metric, excess=fmean(figures["excess"]))
            yield setting, {columns[key]: dict(enumerate(figures[key])) for key in columns}


def describe(title: str, page: str, results: Mapping[str, Any], commit: str) -> Table:
    """Return where the figures of a comparison come from."""
    files = results["task"]["files"]
    hours = sum(sum(variant["seconds"]) for variant in results["methods"].values()) / 3600
    # Paths of the machine say nothing elsewhere.
    command = re.sub(r"(?<=\s)\S*?/(?=data/)", "", results["command"] or "")
    command = re.sub(r"(?<=\s)/\S*/", "", command)
    data = ", ".join(f"{Path(name).name} ({digest[:8]})" for name, digest in files.items())
    return Table(title, page, data, results["date"][:10], commit, hours, command)


def write_map(settings: list[Setting]) -> str:
    """Return the map as a table of Markdown."""
    lines = [
        "| setting | excess | metric | better than `mle` | level | worse |",
        "|---|---|---|---|---|---|",
    ]
    for setting in settings:
        cells: dict[str, list[str]] = {"better": [], "level": [], "worse": []}
        for name, found in sorted(setting.estimates.items(), key=lambda pair: -pair[1]["mean"]):
            low, high = found["low"], found["high"]
            cells[judge(found)].append(f"{name} {found['mean']:+.2f} [{low:.2f}, {high:.2f}]")
        seeds = max(map(len, setting.gains.values()), default=3)
        excess = "" if setting.excess is None else f"{setting.excess:.1f}"
        start = (
            f"| [{setting.name}]({setting.page}), {seeds} seeds | {excess} | {setting.metric} | "
        )
        lines.append(start + " | ".join("; ".join(each) for each in cells.values()) + " |")
    return re.sub(r"-(?=\d)", "−", "\n".join(lines))


def write_tables(tables: list[Table]) -> str:
    """Return the list of tables as a page of Markdown."""
    lines = [
        "# All tables",
        "",
        "Where the figures of [the map](README.md) come from; `make results` writes this page.",
        "Hours are those of training, on one thread. Data files have the first digits of their "
        "SHA-256. Results without a date of their own have that of their page.",
        "",
        "| table | data | date | commit | hours | command |",
        "|---|---|---|---|---|---|",
    ]
    for each in tables:
        hours = "" if each.hours is None else f"{each.hours:.1f}"
        command = each.command.replace("|", "\\|")
        cells = (f"[{each.title}]({each.page})", each.data, each.date, each.commit, hours)
        lines.append(f"| {' | '.join(cells)} | `{command}` |")
    return "\n".join(lines) + "\n"


def draw(settings: list[Setting], path: Path) -> None:
    """Draw the map: a row for every setting, a column for every method."""
    columns: dict[str, int] = {}
    for setting in settings:
        for name in setting.estimates:
            columns[name] = columns.get(name, 0) + 1
    names = sorted(columns, key=lambda name: -columns[name])
    size = (3.6 + 0.62 * len(names), 1.7 + 0.3 * len(settings))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for y, setting in enumerate(settings):
        for name, found in setting.estimates.items():
            x = names.index(name)
            corner, color = (x - 0.5, y - 0.5), COLORS[judge(found)]
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=color, edgecolor="white"))
            text = f"{found['mean']:+.1f}".replace("-", "−")
            axes.text(x, y, text, ha="center", va="center", fontsize=7.5)
    labels = [
        each.name + ("" if each.excess is None else f"  ({each.excess:.1f})".replace("-", "−"))
        for each in settings
    ]
    axes.set_yticks(range(len(settings)), labels, fontsize=8)
    axes.set_xticks(range(len(names)), [n.replace("_", " ") for n in names], fontsize=8)
    axes.tick_params(
        axis="x", rotation=60, top=True, labeltop=True, labelbottom=False, bottom=False
    )
    for tick in axes.get_xticklabels():
        tick.set(ha="left", rotation_mode="anchor")
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(settings) - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    words = {"better": "interval above zero", "level": "includes zero", "worse": "below zero"}
    patches = [Patch(color=COLORS[key], label=words[key]) for key in COLORS]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def fill(page: str, text: str) -> str:
    """Return a page with the text between its two markers."""
    before, after = page.partition(START)[0], page.partition(END)[2]
    return f"{before}{START}\n\n{text}\n\n{END}{after}"


def main(folder: Path = HERE) -> None:
    """Write the picture and both pages."""
    settings, tables = collect(folder)
    readme = folder / "README.md"
    readme.write_text(fill(readme.read_text("utf-8"), write_map(settings)), "utf-8")
    (folder / "tables.md").write_text(write_tables(tables), "utf-8")
    draw(settings, folder / "map.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
