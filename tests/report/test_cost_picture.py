"""The picture of cost vectors: what it shows, and that everything has its place."""

from dataclasses import replace

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from freerun.errors import WriteError
from freerun.report.cost_vectors import picture, save_picture
from freerun.report.cost_vectors.picture import BEST, WIDEST
from freerun.report.cost_vectors.text import STOPS, hexadecimal
from tests.full import FULL, full
from tests.helpers import raises
from tests.report.cost_examples import no, ranked, wide


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def squares(figure):
    """The colored squares: colors by place, and the places of frames among them."""
    shapes = figure.axes[0].patches
    white = [p for p in shapes if to_hex(p.get_edgecolor()) == "#ffffff"]
    framed = [p for p in shapes if to_hex(p.get_edgecolor()) == BEST.lower()]
    return {p.get_xy(): to_hex(p.get_facecolor()) for p in white}, framed


def test_squares_hold_what_became_of_the_sentence():
    found = words(picture(no()))
    assert "toy, test, example 1 of 3" in found
    start = found.index("target", found.index("target") + 1) + 1
    assert found[start : start + 9] == ["1", "o", "n", "2", "n", "o", "3", "eos", "n"]
    assert found[start + 8 : start + 18] == [
        "n", "n", "o", "▷", "o", "n", "on", "n", "o", "▶"
    ]  # fmt: skip
    assert "(nothing)" in found
    assert "cheapest of its cell    ▶ the policy's choice    ▷ written by the roll-in" in found
    assert found[-3:] == ["roll-in, ", "token tried, ", "roll-out"]


def test_the_token_is_bold_and_what_stood_before_is_faint():
    texts = picture(no()).axes[0].texts
    last = [text for text in texts if text.get_text() == "on"][-2:]
    assert {text.get_alpha() for text in last} == {0.65}
    bold = [text.get_text() for text in texts if text.get_weight() == "bold"]
    assert bold[1:] == ["o", "n", "eos", "n", "n", "n", "o", "o", "o", "token tried, "]


def test_colours_are_costs_and_frames_the_cheapest():
    colors, framed = squares(picture(no()))
    assert len(colors) == 9
    rows = sorted({y for _, y in colors})
    columns = sorted({x for x, _ in colors})
    assert colors[columns[0], rows[0]] == hexadecimal(STOPS[0]).lower()
    assert colors[columns[2], rows[0]] == hexadecimal(STOPS[-1]).lower()
    assert len(framed) == 5, "one in the first cell, two in the second, one in the third, a legend"


def test_where_outputs_are_too_long_costs_stand_in_the_squares():
    found = words(picture(wide(2, 21)))
    assert found.count(".00") == 2 + 2, "two squares and both ends of the scale"
    assert "token tried, " not in found
    assert "x" * 20 in "".join(words(picture(wide(2, 20))))


def test_ranks_hold_tokens_and_costs():
    found = words(picture(ranked()))
    assert "a$b$c          .25" in found
    assert "incomprehensi… 12" in found
    assert "▪?             3.0" in found, "the font has no mark for a joint: a square stands for it"
    assert "rows: the tokens of a cell, the cheapest first" in found
    assert "quoi $x$" in found


def boxes(figure):
    """Texts with the boxes that they take, in dots."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    texts = [t for t in texts if t.axes is None or t in t.axes.texts]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts]


LONG = replace(no(), name="a/path/that/goes/on" * 9, cost="a cost of one's own" * 3)


@pytest.mark.parametrize("vectors", [no(), ranked(), wide(3, 4), wide(30, 20), wide(45, 30), LONG])
def test_nothing_overlaps_or_is_cut(vectors):
    figure = picture(vectors)
    figure.set_dpi(150)
    found = boxes(figure)
    width, height = figure.get_size_inches() * 150
    assert width <= WIDEST * 150
    for i, (text, box) in enumerate(found):
        assert 0 <= box.x0 < box.x1 <= width, text
        assert 0 <= box.y0 < box.y1 <= height, text
        for other, place in found[i + 1 :]:
            across = min(box.x1, place.x1) - max(box.x0, place.x0)
            down = min(box.y1, place.y1) - max(box.y0, place.y0)
            # The parts of a word may touch as letters do.
            assert across <= 2 or down <= 2, (text, other)


def test_many_cells_are_shown_in_blocks():
    found = words(picture(wide(30, 20)))
    assert found.count("roll-in") == 1 + 4
    assert [str(number) for number in range(1, 31)] == [word for word in found if word.isdecimal()]


def test_a_picture_is_saved(tmp_path):
    path = tmp_path / "costs.png"
    save_picture(no(), path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_with_the_picture(tmp_path):
    with full(5_000), raises(WriteError, f"{tmp_path / 'costs.png'}: {FULL}"):
        save_picture(no(), tmp_path / "costs.png")
    assert list(tmp_path.iterdir()) == []


def test_settings_of_matplotlib_are_left_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    save_picture(no(), tmp_path / "costs.png")
    assert dict(matplotlib.rcParams) == before
