"""The map of measured comparisons has the right figures, and the committed one is the newest."""

import json
import runpy
import shutil

import pytest

from freerun.evaluation import estimate
from tests.pages import ROOT

RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def maps():
    """The script that writes the map."""
    return runpy.run_path(str(RESULTS / "make_map.py"))


def results(path, date, seeds, **errors):
    """Write the results of a comparison whose baseline is the first method."""
    methods = {
        name: {
            "method": name.partition("-")[0],
            "settings": {},
            "test": {"character_error": {"values": values}},
            "seconds": [1800.0] * len(seeds),
        }
        for name, values in errors.items()
    }
    metric = {"metric": "character_error", "greater_is_better": False}
    path.parent.mkdir(exist_ok=True)
    contents = {
        "methods": methods,
        "seeds": seeds,
        "base": "mle" if "mle" in errors else None,
        "task": {"files": {"/home/me/data/a.txt": "0123456789abcdef"}, **metric},
        "training": {"budget": None},
        "date": date,
        "command": "freerun compare x --data /home/me/data/a.txt --config /home/me/b.yaml",
    }
    path.write_text(json.dumps(contents))


@pytest.fixture
def folder(tmp_path):
    """Two files of one setting: the second, with other methods, has no baseline of its own."""
    two, three = [0, 1], {"mle": [0.5, 0.6], "ocd": [0.4, 0.5], "mrt": [0.7, 0.5]}
    results(tmp_path / "one" / "results.json", "2026-11-21T00:00:00+00:00", two, **three)
    results(tmp_path / "more.json", "2026-11-22T00:00:00+00:00", [1, 0], searnn=[0.56, 0.48])
    index = """
    results:
      one/results.json: {title: One, page: one.md, commit: abc, excess: 2.5}
      more.json: {title: One, page: one.md, commit: abd, base: [one/results.json]}
    """
    (tmp_path / "tables.yaml").write_text("\n".join(line[4:] for line in index.split("\n")))
    (tmp_path / "README.md").write_text(f"before\n{START}\nold\n{END}\nafter\n")
    return tmp_path


START, END = "<!-- map, by make results -->", "<!-- end of map -->"


def test_gains_are_paired_by_seed(maps, folder):
    (setting,), tables = maps["collect"](folder)
    assert setting.gains["ocd"] == pytest.approx({0: 10, 1: 10})
    assert setting.gains["mrt"] == pytest.approx({0: -20, 1: 10})
    assert setting.gains["searnn"] == pytest.approx({0: 2, 1: 4})
    # Student's t for two seeds is 12.706, and the standard error of 2 and 4 is 1.
    searnn = setting.estimates["searnn"]
    assert (searnn["low"], searnn["high"]) == pytest.approx((3 - 12.706, 3 + 12.706), abs=1e-3)
    assert [(t.title, t.commit, t.hours, t.data) for t in tables] == [
        ("One", "abc", 3.0, "a.txt (01234567)"),
        ("One", "abd", 1.0, "a.txt (01234567)"),
    ]
    assert tables[0].command == "freerun compare x --data data/a.txt --config b.yaml"


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([1.0, 1.1, 1.2], "better"),
        ([-1.0, -1.1, -1.2], "worse"),
        ([1.0, -1.0], "level"),
        ([1.0, 1.0], "level"),  # rounded
    ],
)
def test_intervals_are_judged(maps, gains, expected):
    assert maps["judge"](estimate(gains, None)) == expected


def test_the_map_is_written_between_its_markers(maps, folder):
    maps["main"](folder)
    text = (folder / "README.md").read_text("utf-8")
    assert text.startswith(f"before\n{START}\n\n| setting |")
    assert text.endswith(f"|\n\n{END}\nafter\n")
    assert "| [One](one.md), 2 seeds | 2.5 | character error |" in text
    assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")


def test_results_that_are_not_listed_are_added(maps, folder):
    results(folder / "new" / "results.json", "2026-11-23", [0, 1], mle=[0.2, 0.4], ocd=[0.1, 0.1])
    settings, _ = maps["collect"](folder)
    assert [each.title for each in settings] == ["One", "new"]
    assert "  new/results.json: {commit: '" in (folder / "tables.yaml").read_text()


def test_the_committed_map_is_the_newest(maps, tmp_path):
    for name in ("README.md", "tables.md", "tables.yaml"):
        shutil.copy(RESULTS / name, tmp_path)
    for path in RESULTS.rglob("*.json"):
        copied = tmp_path / path.relative_to(RESULTS)
        copied.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(path, copied)
    settings, tables = maps["collect"](tmp_path)
    page = (RESULTS / "README.md").read_text("utf-8")
    why = "run `make results`"
    assert maps["fill"](page, maps["write_map"](settings)) == page, why
    assert maps["write_tables"](tables) == (RESULTS / "tables.md").read_text("utf-8"), why
    assert (tmp_path / "tables.yaml").read_bytes() == (RESULTS / "tables.yaml").read_bytes(), why
