"""The pictures: what they show, and that drawing them leaves matplotlib as it was."""

import subprocess
import sys

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from freerun.report import MissingPlotsError, draw
from freerun.report.plots import error_by_position, learning_curves

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_both_pictures_are_written(results, tmp_path):
    paths = draw(results, tmp_path)
    assert [path.name for path in paths] == ["learning_curves.png", "error_by_position.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(SIGNATURE) for path in paths)


def test_learning_curves_are_means_over_seeds(results):
    (axes,) = learning_curves(results).axes
    expected = [[50, pytest.approx(60)], [100, pytest.approx(20)]]
    assert lines(axes) == dict.fromkeys(results["methods"], expected)
    assert axes.get_xlabel() == "update"
    assert axes.get_ylabel() == "character error (%) on dev"
    assert axes.get_title() == "digits: learning curves, free-running\n"
    assert axes.texts[0].get_text() == "mean of 2 seeds, ± one standard deviation"
    low, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == (pytest.approx(20 - 200**0.5), pytest.approx(60 + 200**0.5))


def test_learning_curves_stop_where_a_seed_does(results):
    results["methods"]["mle"]["learning_curves"][1].pop()
    (axes,) = learning_curves(results).axes
    assert lines(axes)["mle"] == [[50, pytest.approx(60)]]


@pytest.mark.parametrize(("last", "scale"), [(0.01, "log"), (0.1, "linear"), (0.0, "linear")])
def test_wide_ranges_are_drawn_on_a_logarithmic_axis(results, last, scale):
    for entry in results["methods"].values():
        for curve in entry["learning_curves"]:
            curve[-1]["character_error"] = last
    (axes,) = learning_curves(results).axes
    assert axes.get_yscale() == scale


def test_positions_that_few_examples_have_are_left_out_and_named(results):
    upper, lower = error_by_position(results).axes
    expected = [[1, pytest.approx(20)], [2, pytest.approx(30)]]
    assert lines(upper) == dict.fromkeys(results["methods"], expected)
    assert [bar.get_height() for bar in lower.patches] == [1000, 60]
    assert lower.get_xlabel() == (
        "position in the sequence (3 and later, with under 50 examples, not shown)"
    )
    assert upper.get_ylabel() == "wrong at the position (%)"


def test_small_test_sets_are_drawn_too(results):
    for entry in results["methods"].values():
        entry["error_by_position"]["count"] = [20, 10, 2]
    _, lower = error_by_position(results).axes
    assert [bar.get_height() for bar in lower.patches] == [20, 10, 2]
    assert lower.get_xlabel() == "position in the sequence"


def test_the_legend_stands_under_the_axes(results):
    figure = error_by_position(results)
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(results["methods"])
    top = legend.get_window_extent().y1
    assert all(top < axes.get_tightbbox().y0 for axes in figure.axes)


def test_many_methods_have_lines_that_differ(results):
    entry = results["methods"]["mle"]
    results["methods"] = {f"m{i}": entry for i in range(10)}
    (axes,) = learning_curves(results).axes
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}
    assert len(looks) == 10


def test_settings_of_matplotlib_are_left_alone(results, tmp_path):
    before = dict(matplotlib.rcParams)
    draw(results, tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_imported():
    code = (
        "import sys; import freerun.report.plots as p; p.require_plots();"
        "p._figure([1.0], {'methods': {'a': 0}}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_is_named(results, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPlotsError) as caught:
        draw(results, tmp_path)
    assert str(caught.value) == (
        "drawing plots needs matplotlib, which is missing: pip install freerun[plots]"
    )
    assert list(tmp_path.iterdir()) == []
