"""Tasks of a user's own on the command line, by the address of their class."""

import json
import re
import sys

import pytest

from tests.cli.tiny import TINY

SOURCE = """\
from dataclasses import dataclass
from freerun.tasks import Digits

@dataclass(frozen=True)
class Dates(Digits):
    \"\"\"Dates with less noise.

    Args:
        noise: the standard deviation of the noise.
    \"\"\"

    summary = "images to dates"
    recipe = {"model": {"layers": 2}, "training": {"updates": 7}}
    noise: float = 0.1
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A file with a task in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "mine.py").write_text(SOURCE)
    yield
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("words", [["mine.py:Dates"], ["--task", "mine.py:Dates"]])
def test_its_help_has_its_settings_and_its_recipe(run, words):
    status, output, errors = run("train", *words, "--help")
    assert (status, errors) == (0, "")
    assert output.startswith("Usage: freerun train mine.py:Dates --output DIR [OPTIONS]\n")
    for flag, default in (("task.noise X", 0.1), ("model.layers N", 2), ("training.updates N", 7)):
        entry = " ".join(output.partition(f"--{flag}")[2].partition("--")[0].split())
        assert entry.endswith(f"(default: {default})")


def test_it_is_compared_and_evaluated(run, tmp_path):
    words = ["mine.py:Dates", "--output", "out", "--seeds", "1", "--methods", "mle", "--quiet"]
    status, _, errors = run("compare", *words, *TINY)
    assert (status, errors) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["command"].startswith("freerun compare mine.py:Dates --output out --seeds 1")
    status, output, errors = run("evaluate", tmp_path / "out" / "mle" / "seed-0")
    assert (status, errors) == (0, "")
    assert ", test, 14 examples, free-running, greedy:\n" in output


def test_it_is_listed(run):
    status, output, errors = run("tasks", "mine.py:Dates")
    assert (status, errors) == (0, "")
    assert output.startswith("mine.py:Dates\nimages to dates\n")
    assert re.search(r"^ *noise +0\.1 +the standard deviation", output, re.M)
    assert "my_task.py:MyTask" in run("tasks")[1]


def test_a_wrong_address_is_reported_in_one_line(refuses):
    message = "task 'mine.py:Date': there is no Date in mine.py; did you mean 'Dates'?"
    refuses(f"freerun train: {message}", "train", "mine.py:Date", "--output", "x")
    refuses(f"freerun tasks: {message}", "tasks", "mine.py:Date")
