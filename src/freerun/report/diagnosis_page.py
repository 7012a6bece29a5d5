"""The report of a diagnosis, as a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freerun.evaluation import AccumulatedErrors, ContinuationComparison, ExposureBias
from freerun.report.diagnosis import (
    describe_accumulated_errors,
    describe_continuations,
    describe_exposure_bias,
    list_continuations,
    list_divergences,
    list_rates,
)
from freerun.report.page import Group, Page, Picture, ReportCell, ReportRow, ReportTable, render
from freerun.report.pictures import draw_svg
from freerun.report.plots import COLORS, FEWEST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTERVALS = "Intervals are 95 %, from a bootstrap over sentences."
ERRORS = (
    "Rates are per token. An error is a next token after which the smallest possible cost can no "
    "longer be reached."
)
POSITIONS = (
    "The error rate at every position of an output: after what the model wrote itself, and after "
    "the nearest prefixes of the references, which shows how difficult the position is."
)
DIVERGENCES = (
    "Divergences are those of the next token, KL(oracle ‖ model). AccErr(l) is the sum of those of "
    "the first l tokens after own text, divided by their mean after references (Arora et al. 2022)."
)
LENGTHS = (
    "Accumulated errors by length: AccErr(l) of the first l tokens. It is l if errors do not "
    "accumulate."
)

TEXTS = (
    "Repetition is the mean fraction of repeated 4-grams in a text; entropy is that of the 4-grams "
    "of all texts together. Own and real continuations of the same prompts are cut to the same "
    "length in tokens, which is given."
)
REPETITIONS = "Repeated 4-grams in the beginnings of own and real continuations, by their length."

Measurement = ExposureBias | AccumulatedErrors | ContinuationComparison
"""What `freerun diagnose` measures."""


@dataclass(frozen=True)
class Presentation:
    """What there is to show of a diagnosis.

    Attributes:
        question: the question that it answers.
        answer: the answer in words; one line per statement.
        rates: the name of every figure, and its value with its interval.
        notes: what the figures mean.
        heading: the heading of the plot.
        caption: what it shows.
        plot: a function that draws it.
    """

    question: str
    answer: list[str]
    rates: list[tuple[str, str]]
    notes: tuple[str, ...]
    heading: str
    caption: str
    plot: Callable[[], Figure]


def present(found: Measurement, command: str | None = None) -> Presentation:
    """Return what there is to show of a diagnosis.

    Args:
        found: the measurement.
        command: the command that compares methods for this model, to be named if they may help.
    """
    if isinstance(found, AccumulatedErrors):
        return Presentation(
            "do its errors accumulate?",
            describe_accumulated_errors(found, command),
            list_divergences(found),
            (DIVERGENCES, INTERVALS),
            "Accumulated errors by length",
            LENGTHS,
            lambda: errors_by_length(found),
        )
    if isinstance(found, ContinuationComparison):
        return Presentation(
            "how does its text differ from real text?",
            describe_continuations(found),
            list_continuations(found),
            (TEXTS, INTERVALS),
            "Repetition by length",
            REPETITIONS,
            lambda: repetition_by_length(found),
        )
    return Presentation(
        "does it suffer from its own mistakes?",
        describe_exposure_bias(found, command),
        list_rates(found),
        (ERRORS, INTERVALS),
        "Errors by position",
        POSITIONS,
        lambda: errors_by_position(found),
    )


def write_diagnosis_page(
    shown: Presentation,
    *,
    title: str,
    subtitle: str,
    groups: Sequence[Group],
    details: Mapping[str, Mapping[str, Any]],
    command: str | None = None,
) -> str:
    """Return the report of a diagnosis as HTML.

    Args:
        shown: what there is to show.
        title: the title.
        subtitle: what was measured.
        groups: examples of outputs.
        details: settings and versions: by heading, names and values.
        command: the command line.

    Raises:
        MissingExtraError: if matplotlib is missing.
    """
    rows = [ReportRow(name, [ReportCell([value])]) for name, value in shown.rates]
    picture = Picture(shown.heading, draw_svg(shown.plot, "p", shown.caption), shown.caption)
    page = Page(
        title=title,
        subtitle=subtitle,
        answer=shown.answer,
        table=ReportTable(["rate", "value and interval"], rows, shown.notes),
        pictures=[picture],
        groups=groups,
        details=details,
        command=command,
    )
    return render(page)


def errors_by_position(found: ExposureBias) -> Figure:
    """Plot the error rates after own prefixes and after their paired prefixes, by position.

    A second plot shows how many outputs have the position. Positions that too few outputs have are
    left out, and the axis label says so.
    """
    counts = found.count_by_position
    fewest = min(FEWEST, max(counts, default=0) // 10)
    kept = sum(count >= fewest for count in counts)
    lines = (
        ("after own prefixes", found.own_by_position, COLORS[1], "-"),
        ("after the nearest correct prefixes", found.paired_by_position, COLORS[0], "--"),
    )
    cut = f"\n({kept + 1} and later, with under {fewest} outputs, not shown)"
    return _draw_lines(
        [
            (name, [100 * rate for rate in rates[:kept]], color, style)
            for name, rates, color, style in lines
        ],
        f"position in the output{cut if kept < len(counts) else ''}",
        "wrong next tokens (%)",
        counts=counts[:kept],
    )


def errors_by_length(found: AccumulatedErrors) -> Figure:
    """Plot AccErr(l), and the line of errors that do not accumulate."""
    even = [float(length) for length in range(1, found.length + 1)]
    lines = [
        ("own text", found.accumulated_by_length, COLORS[1], "-"),
        ("if errors did not accumulate", even, COLORS[0], "--"),
    ]
    return _draw_lines(lines, "length in tokens", "AccErr")


def repetition_by_length(found: ContinuationComparison) -> Figure:
    """Plot the repetition of own and real continuations at every length."""
    lines = [
        ("own text", [100 * each for each in found.own_repetition], COLORS[1], "-"),
        ("real text", [100 * each for each in found.real_repetition], COLORS[0], "--"),
    ]
    return _draw_lines(lines, "length in tokens", "repeated 4-grams (%)", found.lengths)


def _draw_lines(
    lines: Sequence[tuple[str, Sequence[float], str, str]],
    across: str,
    up: str,
    places: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
) -> Figure:
    """Plot lines of values at 1, 2, … or other places, each with its name, color and style.

    With `counts`, a second plot below shows the number of outputs at each place.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    heights = [1.0] if counts is None else [4.0, 1.0]
    figure = Figure(figsize=(7.0, 2.8 + 0.8 * len(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    axes, lowest = panels[0, 0], panels[-1, 0]
    for name, values, color, style in lines:
        at = range(1, len(values) + 1) if places is None else places
        axes.plot(at, values, style, color=color, linewidth=2, label=name)
    axes.set_ylabel(up)
    axes.set_ylim(bottom=0)
    if counts is not None:
        lowest.bar(range(1, len(counts) + 1), counts, color="#BBBBBB", width=0.7)
        lowest.set_ylabel("outputs")
        axes.tick_params(labelbottom=False)
    lowest.set_xlabel(across)
    for each in {id(axes): axes, id(lowest): lowest}.values():
        each.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
        each.xaxis.set_major_locator(MaxNLocator(integer=True))
    if places is not None:
        axes.set_xticks(places)
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure
