"""The report of a comparison: which method is best, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from freerun.report.examples import Outputs, choose_examples
from freerun.report.export import Figures, list_figures
from freerun.report.labels import ResultsFile, arrow, label, scale, task_name, unit
from freerun.report.page import Group, Page, Picture, ReportCell, ReportRow, ReportTable, render
from freerun.report.pictures import differences, draw_svg
from freerun.report.plots import (
    NO_PLOTS,
    can_plot,
    error_by_position,
    has_controls,
    learning_curves,
)
from freerun.report.table import MAJORITY_GUESS, legend, title
from freerun.report.words import describe_comparison, find_best_method

DISTANCE = (
    "Solid lines are free-running, dashed lines after correct prefixes: the distance between the "
    "two of a color is what earlier errors add at that position."
)
NO_CONTROL = "Positions differ in difficulty: freerun diagnose tells this from exposure bias."
NO_OUTPUTS = "The outputs of the test examples are not here, so no examples are shown."


def write_page(results: ResultsFile, outputs: Outputs) -> str:
    """Return the report of a comparison as HTML; without plots if matplotlib is missing.

    Args:
        results: the contents of results.json.
        outputs: the rows of outputs.jsonl of every method, with the first seed; empty if there are
            none.
    """
    examples = results.get("examples", {})
    size = f", {examples['test']:,} test examples" if "test" in examples else ""
    seeds, plots = len(results["seeds"]), can_plot()
    page = Page(
        title=f"{task_name(results)}: {len(results['methods'])} training methods compared",
        subtitle=f"{title(results)}, {seeds} {'seed' if seeds == 1 else 'seeds'}{size}",
        answer=describe_comparison(results),
        table=_table(results),
        pictures=list(_pictures(results)) if plots else [],
        groups=_groups(results, outputs),
        missing=[*([] if outputs else [NO_OUTPUTS]), *([] if plots else [NO_PLOTS])],
        details=dict(_details(results)),
        command=results.get("command"),
    )
    return render(page)


def _table(results: ResultsFile) -> ReportTable:
    metrics, base = list(results["majority"]), results["base"]
    headings = [f"{label(metric)} {unit(metric)} {arrow(metric)}" for metric in metrics]
    relative = "time of an update" if base is None else f"time, relative to {base}"
    rows = [
        ReportRow(row.name, [*(_cell(row, metric) for metric in metrics), _time(row)])
        for row in list_figures(results)
    ]
    guess = [
        ReportCell([f"{value * scale(metric):.2f}"])
        for metric, value in results["majority"].items()
    ]
    rows.append(ReportRow(MAJORITY_GUESS, [*guess, ReportCell([""])]))
    return ReportTable(["method", *headings, relative], rows, legend(results).split("\n"))


def _cell(row: Figures, metric: str) -> ReportCell:
    lines = [row.show_value(metric)]
    if metric in row.differences:
        lines += [f"Δ {row.show_difference(metric)}", *row.show_interval(metric)]
    return ReportCell(lines, {1: "better", -1: "worse", 0: ""}[row.judge(metric)])


def _time(row: Figures) -> ReportCell:
    if row.seconds is None:
        return ReportCell([""])
    milliseconds = f"{row.seconds * 1000:.1f} ms"
    return ReportCell(
        [milliseconds] if row.relative is None else [f"{row.relative:.2f} ×", milliseconds]
    )


def _pictures(results: ResultsFile) -> Iterator[Picture]:
    metric, base = label(results["task"]["metric"]), results["base"]
    count = len(results["seeds"])
    if base is not None and len(results["methods"]) > 1:
        caption = f"Mean difference in {metric} to {base} on test; bars are 95 % intervals."
        yield Picture(
            "By how much they differ", draw_svg(lambda: differences(results), "d", caption), caption
        )
    over = "" if count == 1 else f", over {count} seeds"
    caption = f"{metric} of free-running outputs on dev during training{over}."
    caption = caption[0].upper() + caption[1:]
    svg = draw_svg(lambda: learning_curves(results), "l", caption)
    yield Picture("Learning curves", svg, caption)
    if any(entry["error_by_position"]["mean"] for entry in results["methods"].values()):
        caption = f"The share of test outputs that are wrong at a position of the reference{over}."
        svg = draw_svg(lambda: error_by_position(results), "p", caption)
        note = DISTANCE if has_controls(results) else NO_CONTROL
        yield Picture("Errors by position", svg, f"{caption} {note}")


def _groups(results: ResultsFile, outputs: Outputs) -> list[Group]:
    if not outputs:
        return []
    names = [name for name in results["methods"] if name in outputs]
    base, best = results["base"], find_best_method(results)
    if base is None and len(names) > 1:
        base = next(name for name in names if name != best)
    shown = {name: outputs[name] for name in names}
    return choose_examples(shown, results["task"]["metric"], base, best)


def _details(results: ResultsFile) -> Iterator[tuple[str, dict[str, Any]]]:
    task = results["task"]
    yield "Task", {"name": task["name"], **task.get("settings", {})}
    for name, entry in results["methods"].items():
        yield f"Method {name}", {"method": entry["method"], **entry["settings"]}
    for name in ("model", "training"):
        if results.get(name):
            yield name.capitalize(), dict(results[name])
    yield (
        "Seeds and decoding",
        {
            "seeds": results["seeds"],
            **results.get("decoding", {}),
            "also by beam search": results.get("beam"),
        },
    )
    data = {f"examples of {name}": count for name, count in results.get("examples", {}).items()}
    data |= {f"SHA-256 of {name}": digest for name, digest in results.get("data", {}).items()}
    data |= {f"SHA-256 of {name}": digest for name, digest in task.get("files", {}).items()}
    if results.get("codec"):
        data["SHA-256 of the codec"] = results["codec"]
    data |= {f"note {number}": note for number, note in enumerate(task.get("notes", []), 1)}
    yield "Data", data
    if "versions" in results:
        yield "Versions", {**results["versions"], "date": results.get("date")}
