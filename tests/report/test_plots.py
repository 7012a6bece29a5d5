"""The pictures: what they show, and that drawing them leaves matplotlib as it was."""

import subprocess
import sys

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from freerun.errors import WriteError
from freerun.imports import MissingExtraError
from freerun.report import draw
from freerun.report.pictures import PICTURE_WIDTH, differences
from freerun.report.plots import AFTER_REFERENCE, COLORS, error_by_position, learning_curves
from tests.full import FULL, full
from tests.helpers import raises

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


@pytest.mark.parametrize("plot", [learning_curves, error_by_position])
def test_every_method_has_a_look_of_its_own(results, plot):
    entry = results["methods"]["mle"]
    results["methods"] = {f"method {i}": entry for i in range(21)}
    looks = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in plot(results).axes[0].get_lines()
        if line.get_label() in results["methods"]
    }
    assert len(looks) == len({(color, marker) for color, _, marker in looks}) == 21


def drawn(axes, i, seeds):
    return [line.get_xydata().tolist() for line in axes.get_lines()[seeds * i : seeds * (i + 1)]]


def test_seeds_that_stop_at_different_updates_have_a_line_each(results):
    results["methods"]["mle"]["learning_curves"][1].pop()
    figure = learning_curves(results)
    (axes,) = figure.axes
    one, other = [50, pytest.approx(50)], [50, pytest.approx(70)]
    assert drawn(axes, 0, 2) == [[one, [100, pytest.approx(10)]], [other]]
    assert drawn(axes, 1, 2) == [[one, [100, pytest.approx(10)]], [other, [100, pytest.approx(30)]]]
    assert not axes.collections
    assert axes.get_xlabel() == "update"
    assert axes.texts[0].get_text() == "2 seeds, one line each"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(results["methods"])
    first, second, third, *_ = axes.get_lines()
    assert first.get_color() == second.get_color() != third.get_color()


def test_under_a_budget_learning_curves_are_by_seconds(results):
    results["training"]["budget"] = 1.0
    for entry in results["methods"].values():
        for seed, curve in enumerate(entry["learning_curves"]):
            for point, seconds in zip(curve, (0.25, 1.0 + seed / 8), strict=True):
                point |= {"update": 7 + seed, "seconds": seconds}
    figure = learning_curves(results)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert drawn(axes, 2, 2) == [
        [[0.25, pytest.approx(50)], [1.0, pytest.approx(10)]],
        [[0.25, pytest.approx(70)], [1.125, pytest.approx(30)]],
    ]
    assert axes.get_xlabel() == "seconds of training"
    assert "0.4" in [tick.get_text() for tick in axes.get_xticklabels()]
    assert axes.texts[0].get_text() == "2 seeds, one line each"


def test_one_seed_under_a_budget_is_one_line(results):
    results["training"]["budget"], results["seeds"] = 1.0, [0]
    for entry in results["methods"].values():
        entry["learning_curves"] = [[{"update": 9, "seconds": 1.5, "character_error": 0.5}]]
    (axes,) = learning_curves(results).axes
    assert lines(axes) == {name: [[1.5, pytest.approx(50)]] for name in results["methods"]}
    assert all(line.get_marker() != "None" for line in axes.get_lines())
    assert axes.texts[0].get_text() == "one seed"


def test_a_lone_evaluation_has_an_error_bar(results):
    for entry in results["methods"].values():
        for curve in entry["learning_curves"]:
            curve.pop()
    (axes,) = learning_curves(results).axes
    (bar,) = axes.collections[0].get_segments()
    assert bar.tolist() == [
        [50, pytest.approx(60 - 200**0.5)],
        [50, pytest.approx(60 + 200**0.5)],
    ]


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
        "position in the sequence\n(3 and later, with under 50 examples, not shown)"
    )
    assert upper.get_ylabel() == "wrong at the position (%)"


def test_errors_after_correct_prefixes_are_dashed_in_the_color_of_the_method(results):
    _, sampled, other = results["methods"].values()
    sampled["error_after_reference"] = {"mean": [0.1, 0.15, 0.2], "std": [None] * 3}
    other["error_after_reference"] = None
    figure = error_by_position(results)
    own, dashed = [line for line in figure.axes[0].get_lines() if line.get_color() == COLORS[1]]
    assert dashed.get_xydata().tolist() == [[1, 10], [2, 15]]
    assert (own.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *results["methods"],
        AFTER_REFERENCE,
    ]


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


@pytest.mark.parametrize("plot", [learning_curves, error_by_position, differences])
def test_long_names_are_not_cut(results, plot):
    results["methods"]["scheduled_sampling:" + "schedule=inverse_sigmoid,k=0.9," * 4] = results[
        "methods"
    ].pop("differentiable_scheduled_sampling")
    figure = plot(results)
    figure.set_size_inches(PICTURE_WIDTH, figure.get_figheight())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    names = [text for legend in figure.legends for text in legend.get_texts()]
    names += [text for axes in figure.axes for text in axes.texts if ":schedule" in text.get_text()]
    assert names
    for name in names:
        box = name.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


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


def test_pyplot_is_not_imported_nor_matplotlib_before_it_is_needed():
    code = (
        "import sys; import freerun.report.cost_vectors, freerun.report.plots as p;"
        "assert 'matplotlib' not in sys.modules; p.require_plots();"
        "p._figure([1.0], {'methods': {'a': 0}}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_is_named(results, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = "drawing plots needs matplotlib, which is missing: pip install 'freerun[plots]'"
    with raises(MissingExtraError, message):
        draw(results, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_the_picture(results, tmp_path):
    with full(5_000), raises(WriteError, f"{tmp_path / 'learning_curves.png'}: {FULL}"):
        draw(results, tmp_path)
    assert list(tmp_path.iterdir()) == []
