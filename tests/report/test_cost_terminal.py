"""Cost vectors in the terminal, letter by letter."""

import pytest
from rich.console import Console

from freerun.report.cost_vectors import HeatMap, Outcomes, heading, outputs_of_cell
from freerun.report.cost_vectors.text import (
    STOPS,
    crop,
    hexadecimal,
    is_dark,
    shade,
    short,
    visible,
    visible_parts,
)
from tests.report.cost_examples import no, ranked, wide


def text(shown, width=80):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_heat_map():
    assert text(HeatMap(no())) == [
        "cell      1    2    3",
        "roll-in   o    n   eos",
        "target    n    o",
        "      n  .00*=1.0  1.5",
        "      o ›1.0  .50* .50*",
        "    eos  1.0 ›.50*›1.0",
        "",
        "* cheapest of its cell   › the policy's choice   = written by the roll-in",
    ]


def test_more_cells_than_fit_go_on_below():
    assert text(HeatMap(no()), 20)[:13] == [
        "cell      1    2",
        "roll-in   o    n",
        "target    n    o",
        "      n  .00*=1.0",
        "      o ›1.0  .50*",
        "    eos  1.0 ›.50*",
        "",
        "cell      3",
        "roll-in  eos",
        "target",
        "      n  1.5",
        "      o  .50*",
        "    eos ›1.0",
    ]


def test_blocks_are_alike_in_width():
    lines = [line for line in text(HeatMap(wide(10, 3)), 48) if line.startswith("cell")]
    assert lines == ["cell      1    2    3    4    5", "cell      6    7    8    9    10"]


@pytest.mark.parametrize("width", [3, 9, 12, 40, 80, 200])
def test_lines_keep_to_the_width(width):
    for vectors in (no(), ranked(), wide(40, 60)):
        for shown in (HeatMap(vectors), Outcomes(vectors)):
            least = 30 if isinstance(shown, HeatMap) else 45
            assert max(map(len, text(shown, width))) <= max(width, least)


def test_tokens_by_rank():
    assert text(HeatMap(ranked())) == [
        "cell             1                 3",
        "roll-in  incomprehensibil…        ￭!",
        "target         a$b$c              ￭?",
        "      1  a$b$c        .25* ￭?           3.0*",
        "      2 ›incomprehen…  12",
        "",
        "* cheapest of its cell   › the policy's choice",
        "rows: the tokens of a cell, the cheapest first",
    ]


def styles(vectors):
    """The styles of all squares by what they say."""
    console = Console(width=80, color_system="truecolor", force_terminal=True)
    lines = console.render_lines(HeatMap(vectors), pad=False)
    squares = [segment for line in lines[3:6] for segment in line if segment.style.bgcolor]
    return {square.text: square.style for square in squares}


def test_the_dearer_the_darker():
    found = styles(no())
    assert found[" .00*"].bgcolor.name == hexadecimal(STOPS[0]).lower()
    assert found[" 1.5 "].bgcolor.name == hexadecimal(STOPS[-1]).lower()
    assert (found[" .00*"].color.name, found[" 1.5 "].color.name) == ("#000000", "#ffffff")
    assert found[" .00*"].bold
    assert found["›1.0 "].bold
    assert not found[" 1.5 "].bold


def test_shades_run_from_pale_to_dark():
    light = [sum(shade(i / 20, 0.0, 1.0)) for i in range(21)]
    assert light == sorted(light, reverse=True)
    assert shade(3.0, 3.0, 3.0) == STOPS[0]
    assert shade(2.0, 0.0, 8.0) == pytest.approx(STOPS[1])
    assert shade(1.0, 0.0, 8.0) == pytest.approx(
        [(a + b) / 2 for a, b in zip(STOPS[0], STOPS[1], strict=True)]
    )
    assert [is_dark(stop) for stop in STOPS] == [False, False, False, True, True]


def luminance(color):
    """As WCAG defines it."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def test_what_stands_on_a_shade_is_legible():
    for i in range(101):
        color = shade(i / 100, 0.0, 1.0)
        light = luminance(color) + 0.05
        contrast = 1.05 / light if is_dark(color) else light / 0.05
        assert contrast >= 3.5


def test_outcomes():
    assert text(Outcomes(no())) == [
        "",
        " cell  cheapest     policy's choice  dearest",
        " ───────────────────────────────────────────────",
        "    1  .00 n → no   1.0 o → on       1.0 o → on",
        "    2  .50 eos → o  the same         1.0 n → on",
        "    3  .50 o → ono  1.0 eos → on     1.5 n → onn",
        "",
    ]


def test_a_choice_that_was_not_tried_is_called_so():
    assert text(Outcomes(ranked()))[4] == (
        "    3  3.0 ￭? → a?           not tried               3.0 ￭? → a?"
    )


def test_of_long_outputs_the_part_around_the_token_is_shown():
    lines = text(Outcomes(wide(30, 60)), 80)
    assert lines[3].startswith("    1  .00 x → xxxxxxxxxxxxx…")
    assert lines[32].startswith("   30  .00 x → …xxxxxxxxxxxx…")


def test_outputs_of_a_cell():
    assert text(outputs_of_cell(no(), 2)) == [
        "cell 2: the roll-in wrote n; the target has o",
        "",
        " token    cost   probability   output",
        " ────────────────────────────────────",
        " eos ›   0.500         0.625   o",
        " o       0.500         0.125   oo",
        " n =     1.000         0.250   on",
        "",
    ]
    assert (
        text(outputs_of_cell(no(), 3))[0] == "cell 3: the roll-in wrote eos; the target has ended"
    )
    assert text(outputs_of_cell(no(), 1))[6] == " eos     1.000         0.250   (nothing)"


def test_a_cell_that_was_not_searched():
    with pytest.raises(ValueError, match=r"^the cells that were searched are 1 to 3$"):
        outputs_of_cell(no(), 4)
    with pytest.raises(ValueError, match=r"^the cells that were searched are 1, 3$"):
        outputs_of_cell(ranked(), 2)


def test_the_heading():
    assert text(heading(ranked())) == [
        "words",
        "source   quoi $x$",
        "target   a$b$c it?",
        "roll-in  incomprehensibilities!",
        "cost     1 − BLEU",
        "search   roll-in learned",
    ]
    assert text(heading(wide(3, 30)), 30)[1:3] == [
        "target   xxxxxxxxxxxxxxxxxxxxx",
        "         xxxxxxxxx",
    ]


@pytest.mark.parametrize(
    ("cost", "shown"),
    [(0.0, ".00"), (0.0949, ".09"), (0.994, ".99"), (0.996, "1.0"), (1.25, "1.2"), (9.94, "9.9"),
     (9.96, "10"), (999.4, "999"), (-0.5, "-0.5"), (123456.0, "1.2e+05")],
)  # fmt: skip
def test_costs_in_three_columns(cost, shown):
    assert short(cost) == shown


def test_text_that_can_be_seen():
    assert visible("a b") == "a b"
    assert visible("  a b ") == "␣␣a b␣"
    assert visible("  ") == "␣␣"
    assert visible("a\nb\x1b[0m") == "a\\nb\\x1b[0m"
    assert visible_parts("a", " ", "b ") == ("a", "␣", "b␣")
    assert visible_parts(" a", " b", " c") == ("␣a", " b", " c")
    assert visible_parts("a b ", "", "") == ("a b␣", "", "")


def test_what_is_too_long_ends_in_an_ellipsis():
    assert crop("abcd", 4) == "abcd"
    assert crop("abcde", 4) == "abc…"
    assert crop("漢字漢字", 5) == "漢字…"
