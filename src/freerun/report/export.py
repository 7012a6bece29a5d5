"""The table of a comparison as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from freerun.evaluation import Difference, Estimate, is_clear
from freerun.report.labels import ResultsFile, arrow, format_mean, label, scale, unit
from freerun.report.table import MAJORITY_GUESS, legend, title

TableFormat = Literal["markdown", "latex", "csv"]
"""The formats of a table."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}


@dataclass(frozen=True)
class Figures:
    """The figures of a row of the table.

    Attributes:
        name: the method, and whether it was decoded by beam search.
        values: the metrics on test.
        differences: their differences to the baseline; empty without one.
        seconds: the seconds of an update; None for beam search, which trains nothing.
        relative: the same, divided by that of the baseline.
    """

    name: str
    values: Mapping[str, Estimate]
    differences: Mapping[str, Difference]
    seconds: float | None
    relative: float | None

    def show_value(self, metric: str) -> str:
        """Return mean ± deviation."""
        return format_mean(self.values[metric], scale(metric)) if metric in self.values else "–"

    def show_difference(self, metric: str) -> str:
        """Return the difference with its sign, and a star if its interval excludes zero."""
        found = self.differences[metric]
        return f"{found['mean'] * scale(metric):+.2f}{'*' if is_clear(found) else ''}"

    def show_interval(self, metric: str) -> list[str]:
        """Return the interval of the difference, if there is one."""
        low, high = self.differences[metric]["low"], self.differences[metric]["high"]
        if low is None or high is None:
            return []
        return [f"{low * scale(metric):+.2f} to {high * scale(metric):+.2f}"]

    def judge(self, metric: str) -> int:
        """Return 1 if the method is clearly better than the baseline, -1 if worse, 0 otherwise."""
        if metric not in self.differences or not is_clear(self.differences[metric]):
            return 0
        sign = 1 if self.differences[metric]["mean"] > 0 else -1
        return {"↑": sign, "↓": -sign}.get(arrow(metric), 0)


def list_figures(results: ResultsFile) -> Iterator[Figures]:
    """Yield the rows of the table; that of beam search follows that of its method."""
    metrics, base, beam = list(results["majority"]), results["base"], results.get("beam")
    for name, entry in results["methods"].items():
        differences = entry["difference_to_mle"] if base not in (None, name) else {}
        relative = entry["time_relative_to_mle"]
        for prefix in ("", "beam_") if beam else ("",):

            def select(figures: Mapping[str, Any], prefix: str = prefix) -> dict[str, Any]:
                there = [m for m in metrics if f"{prefix}{m}" in figures]
                return {metric: figures[f"{prefix}{metric}"] for metric in there}

            yield Figures(
                f"{name}, beam {beam}" if prefix else name,
                select(entry["test"]),
                select(differences),
                None if prefix else entry["seconds_per_update"]["mean"],
                None if prefix or relative is None else relative["mean"],
            )


def export_table(results: ResultsFile, form: TableFormat) -> str:
    """Return the table of a comparison as text.

    Markdown and LaTeX have the rounded figures of the printed table, and CSV all digits and the
    ends of all intervals, of fractions between 0 and 1.

    Args:
        results: the contents of results.json.
        form: the format.
    """
    if form == "csv":
        return _to_csv(results)
    heads, rows = _list_cells(results)
    notes = [title(results), *map(str.strip, legend(results).split("\n"))]
    if form == "latex":
        return _to_latex(heads, rows, notes)
    first, *rest = [" | ".join(map(_escape_markdown, line)) for line in (heads, *rows)]
    rule = " | ".join(["---", *["---:"] * (len(heads) - 1)])
    table = "".join(f"| {line} |\n" for line in (first, rule, *rest))
    return table + "\n" + "\n".join(f"{_escape_markdown(note)}  " for note in notes) + "\n"


def _list_cells(results: ResultsFile) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of the table as text."""
    metrics, base = list(results["majority"]), results["base"]
    heads = ["method"]
    for metric in metrics:
        heads.append(" ".join(f"{label(metric)} {unit(metric)} {arrow(metric)}".split()))
        if base is not None:
            heads.append("Δ (95 % interval)")
    heads.append("time" if base is None else f"time, relative to {base}")
    rows = []
    for row in list_figures(results):
        cells = [row.name]
        for metric in metrics:
            cells.append(row.show_value(metric))
            if metric in row.differences:
                interval = "".join(f" ({each})" for each in row.show_interval(metric))
                cells.append(f"{row.show_difference(metric)}{interval}")
            elif base is not None:
                cells.append("")
        time = "" if row.seconds is None else f"{row.seconds * 1000:.1f} ms"
        rows.append([*cells, time if row.relative is None else f"{row.relative:.2f} ×"])
    guess = [MAJORITY_GUESS]
    for metric, value in results["majority"].items():
        guess += [f"{value * scale(metric):.2f}", *([] if base is None else [""])]
    return heads, [*rows, [*guess, ""]]


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~$])", r"\\\1", " ".join(text.split()))


def _to_latex(heads: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Return a tabular with the rules of the package booktabs."""
    lines = [f"{' & '.join(map(_escape_latex, line))} \\\\" for line in (heads, *rows)]
    return "\n".join(
        [
            *(f"% {' '.join(note.split())}" for note in notes),
            rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:-1],
            r"\midrule",
            lines[-1],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escape_latex(text: str) -> str:
    escaped = "".join(_LATEX.get(char, char) for char in text)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped)


def _to_csv(results: ResultsFile) -> str:
    metrics = list(results["majority"])
    ends = ("low", "high")
    written = StringIO()
    table = csv.writer(written, lineterminator="\n")
    heads = ["method"]
    for metric in metrics:
        heads += [metric, *(f"{metric}_{part}" for part in ("std", *ends))]
        heads += [f"{metric}_{part}" for part in ("difference", *(f"difference_{e}" for e in ends))]
    table.writerow([*heads, "seconds_per_update", "time_relative_to_mle"])
    for row in list_figures(results):
        cells: list[Any] = [row.name]
        for metric in metrics:
            value: Mapping[str, Any] = row.values.get(metric) or {}
            difference: Mapping[str, Any] = row.differences.get(metric) or {}
            cells += [value.get(part) for part in ("mean", "std", *ends)]
            cells += [difference.get(part) for part in ("mean", *ends)]
        table.writerow([*cells, row.seconds, row.relative])
    guess = [cell for value in results["majority"].values() for cell in (value, *[None] * 6)]
    table.writerow([MAJORITY_GUESS, *guess, None, None])
    return written.getvalue()
