"""Listings of tasks, methods and metrics."""

import subprocess
import sys

import pytest

from freerun.methods import METHOD_GROUPS, METHODS
from freerun.metrics import METRICS
from freerun.settings import list_settings
from freerun.tasks import TASKS


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def words(text):
    return " ".join(text.split())


def test_methods_have_paper_use_and_settings(run):
    status, output, errors = run("methods")
    assert (status, errors) == (0, "")
    for name, method in METHODS.items():
        assert name in output.splitlines()
        assert words(method.summary) in words(output)
        assert words(method.paper) in words(output)
        for setting in list_settings(method).values():
            assert setting.choice or f"{setting.name}=" in output
    assert "k=null" in output
    lines = output.splitlines()
    for source, methods in METHOD_GROUPS.items():
        names = [lines.index(method.name) for method in methods]
        assert lines.index(f"Learning from {source}") < names[0]
        assert names == sorted(names)
    assert max(map(len, output.splitlines())) <= 100


def test_tasks_have_data_metric_and_settings(run):
    status, output, errors = run("tasks")
    assert (status, errors) == (0, "")
    for name, task in TASKS.items():
        assert name in output.splitlines()
        assert words(task.summary) in words(output)
        for setting in list_settings(task).keys() - {"metrics", "headline"}:
            assert f"{setting}=" in output or f"{setting} (required)" in output
    assert "metrics: chunk_f1 (higher is better)" in output
    assert "metrics: character_error (lower is better), exact_match" in output
    assert "needs nothing: it comes with its data" in output


@pytest.mark.parametrize(("command", "known"), [("methods", METHODS), ("tasks", TASKS)])
def test_one_class_in_full(run, command, known):
    for name, cls in known.items():
        status, output, errors = run(command, name)
        assert (status, errors) == (0, "")
        assert output.startswith(f"{name}\n")
        assert "`" not in output
        for setting in list_settings(cls).values():
            assert any(line.strip().startswith(setting.name) for line in output.splitlines())


def test_metrics_have_direction_and_settings(run):
    status, output, errors = run("metrics")
    assert (status, errors) == (0, "")
    for name, metric in METRICS.items():
        assert name in output.splitlines()
        assert words(metric.summary) in words(output)
    assert "n=4" in output
    assert "model (required)" in output
    assert "\n  lower is better" in output
    assert "\n  neither higher nor lower is better" in output


def test_a_metric_in_full(run, refuses):
    status, output, errors = run("metrics", "ms_jaccard")
    assert (status, errors) == (0, "")
    assert output.startswith("ms_jaccard\nCompute the multiset Jaccard similarity")
    assert "arXiv 1904.03971" in output
    message = "unknown metric 'exact'; did you mean 'exact_match'?"
    refuses(f"freerun metrics: {message}", "metrics", "exact")


def test_a_setting_that_may_be_an_object_is_described_by_its_text():
    """Also while libraries are replaced by stand-ins."""
    command = [sys.executable, "-m", "freerun", "methods", "gkd"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "freerun.policy.Policy (text or null)" in words(printed)
