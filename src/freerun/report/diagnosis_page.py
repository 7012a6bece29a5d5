"""The report of a diagnosis of exposure bias, as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from freerun.evaluation import ExposureBias
from freerun.report.diagnosis import describe_exposure_bias, list_rates
from freerun.report.page import Cell, Page, Picture, Row, Table, render
from freerun.report.pictures import draw_svg
from freerun.report.plots import COLORS, FEWEST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTES = (
    "Rates are per token. An error is a next token after which the smallest possible cost can no "
    "longer be reached.",
    "Intervals are 95 %, from a bootstrap over sentences.",
)
CAPTION = (
    "The error rate at every position of an output: after what the model wrote itself, and after "
    "the nearest prefixes of the references, which shows how difficult the position is."
)


def write_diagnosis_page(
    found: ExposureBias,
    *,
    title: str,
    subtitle: str,
    details: Mapping[str, Mapping[str, Any]],
    command: str | None = None,
) -> str:
    """Return the report of a diagnosis as HTML.

    Args:
        found: the measurement.
        title: the title.
        subtitle: what was measured.
        details: settings and versions: by heading, names and values.
        command: the command line.

    Raises:
        MissingExtraError: if matplotlib is missing.
    """
    rows = [Row(name, [Cell([value])]) for name, value in list_rates(found)]
    picture = Picture(
        "Errors by position", draw_svg(lambda: errors_by_position(found), "p", CAPTION), CAPTION
    )
    page = Page(
        title=title,
        subtitle=subtitle,
        answer=describe_exposure_bias(found),
        table=Table(["rate", "value and interval"], rows, NOTES),
        pictures=[picture],
        details=details,
        command=command,
    )
    return render(page)


def errors_by_position(found: ExposureBias) -> Figure:
    """Plot the error rates after own prefixes and after their paired prefixes, by position.

    Positions that too few outputs have are left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    fewest = min(FEWEST, max(found.count_by_position, default=0) // 10)
    kept = sum(count >= fewest for count in found.count_by_position)
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    lines = (
        ("after own prefixes", found.own_by_position, COLORS[1], "-"),
        ("after the nearest correct prefixes", found.paired_by_position, COLORS[0], "--"),
    )
    for name, rates, color, style in lines:
        percent = [100 * rate for rate in rates[:kept]]
        axes.plot(range(1, kept + 1), percent, style, color=color, linewidth=2, label=name)
    axes.set_xlabel("position in the output")
    axes.set_ylabel("wrong next tokens (%)")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure
