"""The scripts in examples/ that draw the pictures of the documentation still draw them."""

import runpy

import pytest

from tests.pages import ROOT

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("script", "given", "pictures"),
    [
        ("drawings", ".", ["relaxed_decoder.png", "roll_out.png"]),
        ("target_distribution", "target_distribution.png", ["target_distribution.png"]),
    ],
)
def test_pictures_are_drawn(script, given, pictures, tmp_path):
    runpy.run_path(str(ROOT / "examples" / f"{script}.py"))["main"](str(tmp_path / given))
    assert sorted(path.name for path in tmp_path.iterdir()) == pictures
    for picture in pictures:
        drawn = (tmp_path / picture).read_bytes()
        assert drawn.startswith(PNG)
        assert (ROOT / "docs" / "methods" / picture).read_bytes().startswith(PNG)


def test_the_drawing_of_roll_outs_says_what_they_cost():
    drawings = runpy.run_path(str(ROOT / "examples" / "drawings.py"))
    costs = [drawings["errors"]("sp" + t + rest) for t, rest in drawings["LEARNED"].items() if rest]
    assert costs == [3, 0, 3, 4, 2]
    assert [drawings["completion"](p) for p in ("spa", "spe", "spl")] == ["ll", "ll", "l"]
