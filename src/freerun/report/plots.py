"""Plots of a comparison: learning curves, and the error by position in the sequence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerun.evaluation import Summary, summary
from freerun.files import write
from freerun.imports import MissingExtraError, import_extra
from freerun.report.labels import ResultsFile, label, scale, task_name, unit
from freerun.report.table import fold_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colors, which stay apart under every kind of color blindness; with markers, also
# in gray. Their yellow is left out, as it is too faint for a line on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_STYLES = ("-", "-.", ":")
"""The lines of the first, second and third round of colors; dashed ones have another meaning."""
NAME_LENGTH = 44
"""The number of characters of a name that fit in the width of a plot on a page."""
DPI = 150
"""The dots per inch of PNG files."""
AFTER_REFERENCE = "after correct prefixes"
"""What a dashed line is, in the legend."""
FEWEST = 50
"""Positions with fewer test examples are not drawn; if there are few examples, a tenth of them."""

NO_PLOTS = "Plots are left out, because matplotlib is missing: pip install 'freerun[plots]'."
"""What is said where there could be plots."""


def require_plots() -> None:
    """Check that matplotlib is installed.

    Raises:
        MissingExtraError: if matplotlib is missing.
    """
    import_extra("matplotlib", "plots", "drawing plots")


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    try:
        require_plots()
    except MissingExtraError:
        return False
    return True


def draw(results: ResultsFile, directory: Path) -> list[Path]:
    """Draw the plots of a comparison into `directory`.

    Args:
        results: the contents of its results.json.
        directory: where learning_curves.png and error_by_position.png are written.

    Returns:
        Their paths.

    Raises:
        MissingExtraError: if matplotlib is missing.
        WriteError: if a picture cannot be written.
    """
    pictures = {"learning_curves.png": learning_curves, "error_by_position.png": error_by_position}
    for name, picture in pictures.items():
        save_png(partial(picture, results), directory / name)
    return [directory / name for name in pictures]


def save_png(plot: Callable[[], Figure], path: str | Path) -> None:
    """Draw a plot into a PNG file.

    Args:
        plot: draws the plot.
        path: the file.

    Raises:
        MissingExtraError: if matplotlib is missing.
        WriteError: if the picture cannot be written.
    """
    require_plots()
    drawn = BytesIO()
    with plain_text():
        plot().savefig(drawn, dpi=DPI, format="png")
    write(path, drawn.getvalue())


@contextmanager
def plain_text() -> Iterator[None]:
    """Let dollar signs in names be dollar signs, instead of marks of formulas."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def learning_curves(results: ResultsFile) -> Figure:
    """Plot the headline metric of free-running outputs on dev by update; with a budget by seconds.

    Lines are means over seeds, with bands of one standard deviation to either side. If the seeds
    of a method were not all evaluated at the same points, as with a budget or patience, every seed
    has its own line.
    """
    metric = results["task"]["metric"]
    figure, (axes,) = _figure([1.0], results)
    budget = results["training"]["budget"] is not None
    by = "seconds" if budget else "update"
    curves = {name: entry["learning_curves"] for name, entry in results["methods"].items()}
    shared = all(_have_same_points(seeds, by) for seeds in curves.values())
    values: list[float] = []
    for i, (name, seeds) in enumerate(curves.items()):
        groups = [seeds] if shared else [[curve] for curve in seeds]
        for j, group in enumerate(groups):
            x = [point[by] for point in group[0]]
            y = [summary([p[metric] for p in points]) for points in zip(*group, strict=True)]
            values += [point["mean"] for point in y]
            _line(axes, i, "" if j else name, x, y, scale(metric), 1.6 if shared else 0.8)
    x_label = "seconds of training" if budget else "update"
    _finish(axes, x_label, f"{_name_with_unit(metric)} on dev", whole=not budget)
    if values and min(values) > 0 and max(values) > 20 * min(values):
        _logarithmic(axes)
    elif values and min(values) >= 0:
        axes.set_ylim(bottom=0)
    _title(axes, "learning curves, free-running", results, shared)
    _legend(figure, axes)
    return figure


def error_by_position(results: ResultsFile) -> Figure:
    """Plot the fraction of test outputs that are wrong at each position of the sequence.

    Dashed lines are the errors after correct prefixes, where they were measured. A second plot
    shows how many examples have the position. Positions that too few examples have are left out,
    and the axis label says so.
    """
    figure, (upper, lower) = _figure([4.0, 1.0], results)
    counts: Sequence[int] = next(iter(results["methods"].values()))["error_by_position"]["count"]
    fewest = min(FEWEST, max(counts, default=0) // 10)
    kept = sum(count >= fewest for count in counts)
    positions = range(1, kept + 1)
    for i, (name, entry) in enumerate(results["methods"].items()):
        errors = entry["error_by_position"]
        points = [
            Summary(mean=mean, std=std, values=[])
            for mean, std in zip(errors["mean"][:kept], errors["std"][:kept], strict=True)
        ]
        _line(upper, i, name, positions, points, 100.0)
        control = entry.get("error_after_reference")
        if control is not None:
            means = [100 * mean for mean in control["mean"][:kept]]
            (line,) = upper.plot(positions, means, label="_control", markersize=4, **_style(i))
            line.set(linestyle="--", markerfacecolor="none")
    if has_controls(results):
        upper.plot([], [], "--", color="#555555", label=AFTER_REFERENCE)
    lower.bar(positions, counts[:kept], color="#BBBBBB", width=0.7)
    cut = f"\n({kept + 1} and later, with under {fewest} examples, not shown)"
    _finish(upper, "", "wrong at the position (%)")
    _finish(lower, f"position in the sequence{cut if kept < len(counts) else ''}", "examples")
    upper.set_ylim(bottom=0)
    upper.tick_params(labelbottom=False)
    upper.set_xlim(0.4, kept + 0.6)
    _title(upper, "free-running test error by position", results)
    _legend(figure, upper)
    return figure


def has_controls(results: ResultsFile) -> bool:
    """Return whether errors after correct prefixes were measured for any method."""
    entries = results["methods"].values()
    return any(entry.get("error_after_reference") is not None for entry in entries)


def _figure(heights: list[float], results: ResultsFile) -> tuple[Figure, list[Axes]]:
    """Make a figure without pyplot, which would change global state."""
    from matplotlib.figure import Figure

    names = [_fold(name) for name in results["methods"]]
    rows = "\n".join(names).count("\n") + 1 if _columns(names) == 1 else 1
    height = 3.4 + 0.8 * len(heights) + 0.2 * rows
    figure = Figure(figsize=(7.0, height), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    return figure, list(axes[:, 0])


def _line(
    axes: Axes,
    i: int,
    name: str,
    x: Sequence[int] | Sequence[float],
    y: Sequence[Summary],
    factor: float,
    width: float = 1.6,
) -> None:
    """Draw the line of a method with a band of one standard deviation; a bar at a single point.

    A line without a name is left out of the legend.
    """
    style, means = _style(i), [point["mean"] * factor for point in y]
    spread = [(point["std"] or 0.0) * factor for point in y]
    low = [mean - std for mean, std in zip(means, spread, strict=True)]
    high = [mean + std for mean, std in zip(means, spread, strict=True)]
    (line,) = axes.plot(x, means, markersize=2.5 * width, **style)
    line.set(linewidth=width, label=_fold(name) or "_unnamed")
    if any(spread) and len(y) == 1:
        axes.errorbar(x, means, yerr=spread, fmt="none", ecolor=style["color"], capsize=3)
    elif any(spread):
        axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _style(i: int) -> dict[str, Any]:
    """Return color, line and marker of method i; every color has another marker in each round."""
    turn, color = divmod(i, len(COLORS))
    style, marker = LINE_STYLES[turn % len(LINE_STYLES)], MARKERS[(color + turn) % len(MARKERS)]
    return {"color": COLORS[color], "linestyle": style, "marker": marker}


def _finish(axes: Axes, x: str, y: str, *, whole: bool = True) -> None:
    """Set labels, grid and frame; with `whole`, ticks of x are whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=whole))
    axes.xaxis.set_major_formatter("{x:,.10g}")


def _title(axes: Axes, title: str, results: ResultsFile, means: bool = True) -> None:
    """Write the title, with the number of seeds."""
    count = len(results["seeds"])
    several = f"mean of {count} seeds, ± one standard deviation"
    if not means:
        several = f"{count} seeds, one line each"
    seeds = "one seed" if count == 1 else several
    axes.set_title(f"{task_name(results)}: {title}\n", fontsize=12)
    place = axes.transAxes
    axes.text(0.5, 1.02, seeds, ha="center", fontsize=9, color="#555555", transform=place)


def _logarithmic(axes: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _columns(names: Collection[str]) -> int:
    """Return the number of columns of the legend."""
    return len(names) if sum(len(name) + 6 for name in names) <= NAME_LENGTH + 6 else 1


def _fold(name: str) -> str:
    return fold_name(name, NAME_LENGTH)


def _legend(figure: Figure, axes: Axes) -> None:
    """Draw the legend below the axes."""
    handles, names = axes.get_legend_handles_labels()
    columns = _columns(names)
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)


def _have_same_points(curves: Sequence[Sequence[Mapping[str, Any]]], by: str) -> bool:
    """Return whether all seeds were evaluated at the same points."""
    return len({tuple(point[by] for point in curve) for curve in curves}) == 1


def _name_with_unit(metric: str) -> str:
    return f"{label(metric)} ({unit(metric)})" if unit(metric) else label(metric)
