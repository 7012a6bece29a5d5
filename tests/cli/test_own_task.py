"""Tasks of a user's own on the command line, by the address of their class."""

import json
import re

import pytest

from freerun.cli import main
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
def own(here, monkeypatch):
    """A file with a task in the current folder."""
    monkeypatch.setenv("COLUMNS", "100")
    (here / "mine.py").write_text(SOURCE)


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


BROKEN = """\
from dataclasses import dataclass
from freerun.methods import MLE
from freerun.tasks import Digits, Splits

@dataclass(frozen=True)
class Rows(Digits):
    def rows(self):
        return {}["rows"]

@dataclass(frozen=True)
class Init(Digits):
    def __post_init__(self):
        raise TypeError("no\\n  such thing")

@dataclass(frozen=True)
class Numbers(Digits):
    def rows(self):
        return Splits({"train": [1], "dev": [2], "test": [3]})

@dataclass(frozen=True)
class Metrics(Digits):
    metrics = "exact_match"

@dataclass(frozen=True)
class Recipe(Digits):
    recipe = {"training": 3}

@dataclass(frozen=True)
class Unknown(Digits):
    recipe = {"training": {"update": 3}}

@dataclass(frozen=True)
class Type(Digits):
    size: "Nothing" = 3

@dataclass(frozen=True)
class Method(MLE):
    def loss(self, policy, batch, clock, modules):
        return batch.nothing

def metric(outputs, references):
    return 1 / 0
"""
SHOWN = "(FREERUN_TRACEBACK=1 shows the traceback)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine.py:Rows"], f"{{file}}, line 8: KeyError: 'rows' {SHOWN}"),
        (["mine.py:Init"], f"{{file}}, line 13: TypeError: no such thing {SHOWN}"),
        (["mine.py:Numbers"], "the task numbers (train): a row is 1; it must be a mapping such as "
         '{{"source": …, "target": …}}'),
        (["mine.py:Metrics"], "task 'mine.py:Metrics': metrics is 'exact_match'; it must be a "
         "tuple of names, such as ('exact_match',)"),
        (["mine.py:Recipe"], "task 'mine.py:Recipe': recipe is {{'training': 3}}; it must be a "
         'mapping of mappings, such as {{"training": {{"updates": 1000}}}}'),
        (["mine.py:Unknown"], "the recipe has an unknown setting 'update'; did you mean "
         "'updates'?"),
        (["mine.py:Type"], "task 'mine.py:Type': its settings cannot be read: name 'Nothing' is "
         "not defined"),
        (["digits", "--method", "mine.py:Method"],
         f"{{file}}, line 39: AttributeError: 'Batch' object has no attribute 'nothing' {SHOWN}"),
        (["digits", "--metrics", "mine.py:metric"],
         f"{{file}}, line 42: ZeroDivisionError: division by zero {SHOWN}"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_code_of_ones_own_is_one_line(run, tmp_path, words, message):
    (tmp_path / "mine.py").write_text(BROKEN)
    status, output, errors = run("train", *words, "--output", "out", "--quiet", *TINY)
    message = message.format(file=tmp_path / "mine.py")
    assert (status, output, errors) == (2, "", f"freerun train: {message}\n")


def test_the_traceback_is_shown_if_asked_for(monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN)
    monkeypatch.setenv("FREERUN_TRACEBACK", "1")
    with pytest.raises(KeyError, match="rows"):
        main(["train", "mine.py:Rows", "--output", "out"])
