"""Plots as SVG for a page, in colors that the page chooses for a light or a dark background."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any

from freerun.report.labels import ResultsFile, arrow, label, scale, unit
from freerun.report.plots import COLORS, NAME_LENGTH, plain_text, require_plots
from freerun.report.table import fold_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_WIDTH = 4.8
"""The width of a plot in inches, at which its text can be read on a phone."""
_TEXT = "#010203"
"""A placeholder for the color of text, which the page determines."""
_VARIABLES = {
    _TEXT: "currentColor",
    "#555555": "var(--muted)",
    "#dddddd": "var(--grid)",
    "#bbbbbb": "var(--bar)",
    **{color.lower(): f"var(--c{i})" for i, color in enumerate(COLORS)},
}
_INK = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")


def draw_svg(plot: Callable[[], Figure], name: str, description: str) -> str:
    """Draw a plot as SVG to be put into HTML.

    Args:
        plot: draws the plot.
        name: the prefix of ids in the SVG, which must differ within a page.
        description: what the plot shows, for those who cannot see it.

    Raises:
        MissingExtraError: if matplotlib is missing.
    """
    require_plots()
    import matplotlib

    # Text stays text, which is smaller, can be selected and is read by screen readers.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, **dict.fromkeys(_INK, _TEXT)}
    written = StringIO()
    with plain_text(), matplotlib.rc_context(settings):
        figure = plot()
        figure.set_size_inches(PICTURE_WIDTH, figure.get_figheight())
        figure.axes[0].set_title("")  # the page has its own
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub("#[0-9a-f]{6}", lambda found: _VARIABLES.get(found[0], found[0]), svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font: (.*?)'DejaVu Sans'[^;\"]*", r"font: \1sans-serif", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)


def differences(results: ResultsFile) -> Figure:
    """Plot the difference of every method to the baseline in the headline metric.

    Bars are 95 % intervals.
    """
    from matplotlib.figure import Figure

    metric, base = results["task"]["metric"], results["base"]
    rows = [(i, name) for i, name in enumerate(results["methods"]) if name != base]
    figure = Figure(figsize=(PICTURE_WIDTH, 1.2 + 0.5 * len(rows)), layout="constrained")
    axes, factor = figure.subplots(), scale(metric)
    for place, (i, name) in enumerate(rows):
        found = results["methods"][name]["difference_to_mle"][metric]
        mean, color = found["mean"] * factor, COLORS[i % len(COLORS)]
        if found["low"] is not None:
            ends = [found["low"] * factor, found["high"] * factor]
            axes.plot(ends, [place, place], color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot([mean], [place], "o", color=color, markersize=7)
        # At the left, where a long name is not cut, whatever its mean.
        at, how = axes.get_yaxis_transform(), "offset points"
        axes.annotate(fold_name(name, NAME_LENGTH), (0, place), (0, 8), xycoords=at, textcoords=how)
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    points = " (points)" if unit(metric) else ""
    better = {"↑": "; right is better", "↓": "; left is better"}.get(arrow(metric), "")
    axes.set_xlabel(f"{label(metric)} minus that of {base}{points}{better}")
    return figure
