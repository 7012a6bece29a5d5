"""The table of a comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from freerun.evaluation import MAX_SEEDS, Decoding, is_clear
from freerun.report.labels import ResultsFile, arrow, format_mean, label, scale, task_name, unit

NAME_WIDTH = 19
MAJORITY_GUESS = "majority guess"
SEEDS_ONLY = "seeds"
"""The value of `intervals` in results of older versions, whose intervals are computed later."""
BACKSPACES = ("backspace_rate", "rewritten", "right_after", "withdrawn")
"""The metrics of models that have a backspace."""


def table(results: ResultsFile) -> Table:
    """Build the table of a comparison from the contents of its results.json.

    For every method it has the metrics of free-running outputs on test, the differences to MLE with
    the same seeds and their 95 % intervals, with a star if they exclude zero, and the time of an
    update relative to MLE; a second row if test was also decoded by beam search. The last row is a
    constant guess that ignores the source. With up to three metrics the table fits 80 columns.
    """
    base, metrics = results["base"], list(results["majority"])
    found = Table(box=box.SIMPLE_HEAD, title=title(results), title_style="bold", pad_edge=False)
    found.title_justify = "left"
    names = [line for name in results["methods"] for line in fold_name(name).split("\n")]
    # Otherwise, a console that is too narrow for all columns would shrink this one to nothing.
    narrowest = min(NAME_WIDTH, max(map(len, [*names, MAJORITY_GUESS])))
    found.add_column("method", overflow="fold", min_width=narrowest)
    for metric in metrics:
        heading = Text(f"{label(metric)}\n{unit(metric)} {arrow(metric)}".replace("\n ", "\n"))
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("time", justify="right", no_wrap=True)
    for name, entry in results["methods"].items():
        compared = base not in (None, name)
        cells = [_cell(entry, metric, compared=compared) for metric in metrics]
        found.add_row(fold_name(name), *cells, _time(entry))
        if beam := results.get("beam"):
            cells = [_cell(entry, f"beam_{metric}", compared=compared) for metric in metrics]
            found.add_row(f"  beam {beam}", *cells)
    found.add_section()
    guess = [f"{value * scale(metric):.2f}" for metric, value in results["majority"].items()]
    found.add_row(MAJORITY_GUESS, *guess, "", style="italic")
    return found


def legend(results: ResultsFile) -> str:
    """Return lines that explain the figures of the table."""
    base, count = results["base"], len(results["seeds"])
    spread = f"mean ± standard deviation over {count} seeds" if count > 1 else "one seed"
    how = Decoding(**results.get("decoding", {})).how
    how = "greedy decoding" if how == "greedy" else how
    lines = [f"Test set, free-running, {how}; {spread}."]
    if beam := results.get("beam"):
        lines.append(f"Beam {beam}: beam search with {beam} hypotheses, by the same models.")
    if base is None:
        lines.append("No method is MLE, so there is no difference or relative time to show.")
    else:
        lines += [
            f"Δ: difference to {base} of the same seed. Time: of an update, relative to {base}.",
            *_explain_intervals(results),
            *_list_needed_seeds(results),
        ]
    lines.append("Majority guess: the best score of an output that ignores its source.")
    lines += [
        f"{name}: {', '.join(used)}."
        for name, entry in results["methods"].items()
        if (used := _describe_backspaces(entry["test"]))
    ]
    lines += _describe_tuning(results)
    lines += results["task"].get("signatures", {}).values()
    return "\n".join(lines)


def _describe_tuning(results: ResultsFile) -> list[str]:
    """Describe with which settings tuned methods were trained, in lines."""
    lines = []
    for name, entry in results["methods"].items():
        if (tuning := entry.get("tuning")) is not None:
            count, best = len(tuning["trials"]), tuning["trials"][tuning["best"]]["settings"]
            shown = ", ".join(
                f"{path}={value if isinstance(value, str) or value is None else f'{value:.4g}'}"
                for path, value in best.items()
            )
            lines.append(f"  {name}: {shown}")
    return [f"Tuned on dev with {count} trials each:", *lines] if lines else []


def _describe_backspaces(figures: Mapping[str, Any]) -> list[str]:
    """Describe how a method used backspaces, one text per figure; none if it has no backspace."""
    return [
        f"{label(metric)} {format_mean(figures[metric], scale(metric))} {unit(metric)}".rstrip()
        for metric in BACKSPACES
        if metric in figures
    ]


def fold_name(name: str, width: int = NAME_WIDTH) -> str:
    """Break a name into lines of at most `width`, after _ : , or a space."""
    lines = [""]
    for part in re.findall(r"[^_:,\s]*[_:,\s]|[^_:,\s]+", name):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def title(results: ResultsFile) -> str:
    """Return the task, and how long each method was trained."""
    training = results["training"]
    if training["budget"] is not None:
        spent = f"{training['budget']:g} s of training"
    else:
        spent = f"{training['updates']:,} updates"
        if training["patience"] is not None:
            spent = f"at most {spent}"
    return f"{task_name(results)}, {spent} each"


def _cell(entry: Mapping[str, Any], metric: str, *, compared: bool) -> Text:
    """Format a metric, and below it the difference to MLE."""
    factor = scale(metric)
    cell = Text(format_mean(entry["test"][metric], factor))
    if compared:
        difference = entry["difference_to_mle"][metric]
        cell.append(f"\nΔ{difference['mean'] * factor:+.2f}{'*' if is_clear(difference) else ''}")
        if difference["low"] is not None:
            low, high = (difference[end] * factor for end in ("low", "high"))
            cell.append(f"\n{low:+.2f}…{high:+.2f}", style="dim")
    return cell


def _explain_intervals(results: ResultsFile) -> list[str]:
    """Return a note on what the intervals are over, if there are any."""
    over = "seeds and test examples" if len(results["seeds"]) > 1 else "test examples"
    if results.get("intervals") == SEEDS_ONLY:
        if len(results["seeds"]) < 2:
            return []
        over = "seeds only, as an older version of freerun wrote these results"
    return [f"95 % intervals of Δ are over {over}; * excludes zero."]


def _list_needed_seeds(results: ResultsFile) -> list[str]:
    """Say how many seeds would be needed where the headline metric does not differ clearly."""
    metric, base = results["task"]["metric"], results["base"]
    if len(results["seeds"]) < 2:
        return ["One seed: other seeds may give other differences."]
    lines = []
    for name, entry in results["methods"].items():
        difference = entry["difference_to_mle"][metric]
        if name != base and not is_clear(difference):
            needed = difference["seeds_needed"]
            count = f"about {needed}" if needed else f"more than {MAX_SEEDS:,}"
            lines.append(f"  {name}: {count}")
    heading = f"Seeds that would be needed to tell the {label(metric)} from that of {base}:"
    return [heading, *lines] if lines else []


def _time(entry: Mapping[str, Any]) -> str:
    """Format the time of an update: relative to MLE, or in milliseconds without MLE."""
    if entry["time_relative_to_mle"] is None:
        return f"{entry['seconds_per_update']['mean'] * 1000:.1f} ms"
    return f"{entry['time_relative_to_mle']['mean']:.2f} ×"
