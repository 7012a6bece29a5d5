"""What the documentation says is true: its code runs, its tables are complete, its links lead on.

All blocks of a page are run in their order, in one empty folder: Python in one namespace, commands
of freerun in this process, with little to train (`tests/reader.py`).
"""

import importlib
import json
import re
from dataclasses import MISSING
from pathlib import Path

import pytest

from freerun.methods import METHODS, Clock
from freerun.settings import format_value, list_settings
from freerun.vocabulary import Vocabulary
from tests.helpers import tiny_batch, tiny_policy
from tests.pages import PAGES, ROOT, anchors, blocks, commands, links, name_of, sessions, tables
from tests.reader import Reader, sample_data
from tests.test_architecture import FLOORS

MEASURED = "docs/results/"
"""Pages of long runs on data that is not here: their code is checked in the repository, not run."""


@pytest.fixture
def reader(tmp_path, monkeypatch, capsys):
    """Someone who does what a page says, in an empty folder with a little data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    sample_data(tmp_path)
    return Reader(monkeypatch, capsys)


@pytest.mark.parametrize(
    "page",
    [
        # Its commands train every method, as other tests do.
        pytest.param(page, marks=pytest.mark.slow) if page.name == "papers.md" else page
        for page in PAGES
    ],
    ids=name_of,
)
def test_the_code_of_a_page_runs(page, reader, monkeypatch):
    measured = name_of(page).startswith(MEASURED)
    if measured:
        monkeypatch.chdir(ROOT)
    for block in blocks(page):
        where = f"{name_of(page)}, line {block.line}"
        run = block.purpose != "parsed only" and not measured
        if block.purpose == "file":
            path = Path(block.what)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
        elif block.language == "python":
            reader.python(block.body, where, run=run)
        elif block.language == "sh":
            for command in commands(block.body):
                status, printed = reader.command(command, run=run)
                assert status == 0, f"{where}: {command}\n{printed}"
        elif block.language == "console":
            for command, expected in sessions(block.body):
                _, printed = reader.command(command, run=run)
                assert_printed(printed, expected, f"{where}: {command}")
        else:
            assert block.language == "text", f"{where}: what is a block of {block.language!r}?"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{name_of(page)}: {link}"


def test_the_index_names_every_page():
    index = ROOT / "docs" / "README.md"
    named = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    missing = {page for page in pages - named - {index} if page.parent.name != "results"}
    assert not missing


def test_every_method_has_a_page():
    assert {f"docs/methods/{name}.md" for name in METHODS} <= set(map(name_of, PAGES))


def test_the_page_of_papers_runs_every_method():
    text = (ROOT / "docs" / "papers.md").read_text("utf-8")
    run = set(re.findall(r"--method (\w+)", text)) | {"mle"}
    assert run == set(METHODS), "add a command for the method to docs/papers.md"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_settings_on_a_page_are_those_of_the_class(page):
    for name, rows in tables(page, "settings"):
        module, _, cls = name.rpartition(".")
        settings = list_settings(getattr(importlib.import_module(module), cls)).values()
        # What every task can report besides is told once, not in every table.
        settings = [s for s in settings if s.name not in ("metrics", "headline")]
        there = {row[0]: row[1] for row in rows}
        assert there == {f"`{s.name}`": default(s) for s in settings}, name_of(page)


@pytest.mark.parametrize("name", METHODS)
def test_the_page_of_a_method_names_what_is_logged(name):
    words = Vocabulary.build("ab", eos=True).with_backspace()
    policy = tiny_policy(words=words)
    costs = {"cost": "edit_distance", "warm_up": 0.0}
    coins = {"schedule": "constant", "k": 0.5}
    needed = {
        "scheduled_sampling": coins,
        "offline_scheduled_sampling": coins,
        "differentiable_scheduled_sampling": coins,
        "searnn": costs,
        **dict.fromkeys(("mrt", "reinforce", "mixer", "actor_critic"), costs),
        "bso": {"warm_up": 0.0},
        "gkd": {"teacher": tiny_policy(seed=1)},
        "self_distillation": {"warm_up": 0.0},
        "sequence_match": {"warm_up": 0.0, "anneal": 0.0},
    }
    if name in ("gkd", "self_distillation", "bso") or needed.get(name) == costs:
        policy = tiny_policy()
    method, batch = METHODS[name](**needed.get(name, {})), tiny_batch(policy)
    modules = method.build_modules(policy)
    for step in range(2):
        outcome = method.loss(policy, batch, Clock(step, 10), modules)
        method.after_update(policy, Clock(step, 10), modules)
    ((_, rows),) = tables(ROOT / "docs" / "methods" / f"{name}.md", "metrics")
    assert [row[0] for row in rows] == [f"`{metric}`" for metric in ("loss", *outcome.metrics)]


def test_the_table_of_packages_is_complete():
    ((_, rows),) = tables(ROOT / "docs" / "architecture.md", "packages")
    assert [set(re.findall(r"`(\w+)`", row[0])) for row in rows] == FLOORS[::-1]


def test_the_keys_of_results_are_documented(reader):
    methods = "--methods mle scheduled_sampling:schedule=linear"
    status, printed = reader.command(f"freerun compare digits {methods} --output runs")
    assert status == 0, printed
    results = json.loads(Path("runs/results.json").read_text())
    ((_, rows),) = tables(ROOT / "docs" / "results.md", "results")
    documented = {path for row in rows for path in re.findall(r"`([^`]+)`", row[0])}
    found = set(paths(results, documented))
    assert found == documented


def default(setting):
    if setting.default is MISSING:
        return "required"
    return f"`{format_value(setting.default)}`".replace("\n", "\\n")


def paths(value, documented, path=""):
    """The documented keys of `value`, and the undocumented ones that stand under none of them."""
    if path in documented or not isinstance(value, dict) or not value:
        yield path
        return
    for key, inner in value.items():
        general = {"methods": "<name>", "test": "<metric>", "dev": "<metric>"}
        general["difference_to_mle"] = "<metric>"
        key = general.get(path.rpartition(".")[2], key)
        yield from paths(inner, documented, f"{path}.{key}" if path else key)


def assert_printed(printed, expected, where):
    """That a command printed these lines; one of "…" stands for any."""
    lines = [line.rstrip() for line in expected.strip("\n").split("\n")]
    pattern = "\n".join(r"(.|\n)*" if line == "…" else re.escape(line) for line in lines)
    shown = "\n".join(line.rstrip() for line in printed.strip("\n").split("\n"))
    assert re.fullmatch(pattern, shown), f"{where}\n{shown}"
