"""What benchmarks compute from their measurements, and the page that is written from them."""

import json
import math
import subprocess
import sys
from importlib import import_module

import pytest
import torch

from tests.pages import ROOT, blocks

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a benchmark, which finds those beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield import_module
    for path in BENCHMARKS.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


def test_pages_have_the_figures_of_the_files(load):
    """If not, run benchmarks/report.py."""
    report = load("report")
    for path in report.PAGES:
        page = path.read_text("utf-8")
        assert report.write(page, report.FIGURES) == page
        assert len(report.TABLE.findall(page)) == page.count("<!-- figures: ") >= 1


def test_the_page_of_launchers_has_the_shipped_configurations():
    page = ROOT / "docs" / "several_gpus.md"
    shown = {block.what: block.body for block in blocks(page) if block.purpose == "file"}
    shipped = (ROOT / "examples" / "accelerate").iterdir()
    assert shown == {path.name: path.read_text("utf-8") for path in shipped}


def test_figures_are_written_with_the_digits_that_are_there(load, tmp_path):
    figures = {"a_gpt2": 1.666, "a": 0.5, "mle/b": 12345.6, "share_gpt2": 0.123, "c": 7}
    (tmp_path / "some.json").write_text(json.dumps(figures))
    page = """<!-- figures: some.json -->
| what | key | GPT-2 | measured | target |
|---|---|---|---|---|
| four | `a` | 2.0 | 3 % | 5 |
| some | `share` | 9 % | – | |

<!-- figures: some.json, {column}/{key} -->
| `key` | mle | |
|---|---|---|
| `b` | ? | |

| | not a figure |
|---|---|
| `a` | 2 |
"""
    expected = page.replace("2.0", "1.7").replace("3 %", "50 %").replace("9 %", "12 %")
    assert load("report").write(page, tmp_path) == expected.replace("?", "12,300")
    with pytest.raises(KeyError, match="z_gpt2"):
        load("report").write(page.replace("| `a` | 2.0", "| `z` | 2.0"), tmp_path)


def test_slopes_are_exponents(load):
    values = [1, 2, 8]
    assert load("growth").fit_slope(values, [3 * x**1.5 for x in values]) == pytest.approx(1.5)


def test_the_peak_is_that_of_what_is_there_at_a_time(load):
    def run():
        first = torch.zeros(500_000)
        del first
        pair = [torch.zeros(1_000_000) for _ in range(2)]
        return torch.zeros(250_000), len(pair)

    assert load("growth").measure_peak(run) == pytest.approx(9.0, abs=0.01)


def test_what_fits(load):
    """Of one layer: 20 weights in the head, of 100."""
    needs = load("fit").Needs(model=400, averages=800, gradients=400, head=80, row=1000, once=20)
    chunk = load("fit").CHUNK
    assert needs.update(0) == 100 + chunk
    assert needs.update(2) == 2100 + chunk
    assert needs.count_rows(1200 + 100 + chunk + 2999) == 2
    assert needs.count_rows(1200 + 100 + chunk + 3001) == 3
    assert needs.count_rows(1500) == 0
    assert math.isclose(needs.update(0), needs.kept(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["growth", "fit", "processes"])
def test_benchmarks_run(name, tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--json", str(figures)]
    subprocess.run(command, check=True, capture_output=True)
    assert len(json.loads(figures.read_text())) >= 3
