"""The checks of the forge: files that can be read, and commands that exist."""

import re

import pytest
import yaml

from tests.pages import ROOT

FILES = sorted([*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml"])
WORKFLOWS = [path for path in FILES if path.parent.name == "workflows"]
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
VARIABLES = re.findall(r"^(\w+) [:?]=", (ROOT / "Makefile").read_text("utf-8"), re.M)


def name(path):
    return path.name


def steps(path):
    """The steps of all jobs of a workflow."""
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_is_yaml(path):
    assert yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_a_workflow_runs_targets_of_the_makefile(path):
    runs = [re.sub(r"\$\{\{.*?\}\}", "value", step.get("run", "")) for step in steps(path)]
    called = [run.split() for run in runs if run.startswith("make")]
    assert called
    for _, *words in called:
        settings = {word.partition("=")[0] for word in words if "=" in word}
        targets = {word for word in words if "=" not in word} - {".venv/installed"}
        assert targets <= set(TARGETS), path.name
        assert settings <= set(VARIABLES), path.name


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_a_workflow_may_only_read_and_ends(path):
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert job.get("permissions", {}) in ({}, {"id-token": "write"})


def test_tests_run_on_every_python_that_the_package_names():
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    jobs = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text("utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    newest = jobs["libraries"]["strategy"]["matrix"]["include"]
    assert {job["python"] for job in newest} == set(named)


def test_hooks_run_what_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    used = {hook["entry"].split()[0] for repo in hooks["repos"] for hook in repo["hooks"]}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    lint = re.search(r"^lint:.*?\n\n", makefile, re.M | re.S)[0]
    assert used == {f".venv/bin/{tool}" for tool in re.findall(r"\$\(BIN\)/(\w+)", lint)}
