"""The notebooks run from top to bottom, in an empty folder, in less than two minutes each."""

import json
import re
import time

import pytest

from tests.pages import ROOT
from tests.reader import Reader

NOTEBOOKS = sorted(ROOT.glob("examples/notebooks/*.ipynb"))
LIMIT = 120
"""Seconds of one thread."""


def cells(path, kind):
    """The texts of the cells of a kind."""
    found = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def name(path):
    return path.stem


@pytest.mark.slow
# An opened picture, which is shown as the last line of a cell, is read and closed by Jupyter.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reader, started = Reader(monkeypatch, capsys), time.process_time()
    for number, code in enumerate(cells(path, "code"), 1):
        reader.python(code, f"{path.name}, cell {number}")
    assert time.process_time() - started < LIMIT


def test_there_are_notebooks_and_the_list_of_pages_names_them():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    assert len(NOTEBOOKS) == 4
    assert all(f"../examples/notebooks/{path.name}" in index for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_has_no_output_and_its_links_lead_somewhere(path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")
    for link in re.findall(r"\]\(([^)#\s]+)", "\n".join(cells(path, "markdown"))):
        assert (path.parent / link).exists(), link
