"""Threads, and the CPUs that a container may use."""

from __future__ import annotations

import pytest
import torch

from freerun.methods import MLE
from freerun.training import TrainingSettings, fit
from freerun.training import processes as threads
from freerun.training.processes import count_container_cpus, limit_threads
from freerun.training.record import find_record
from tests.training.tiny_task import Tiny


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("max 100000\n", None),
        ("nonsense\n", None),
    ],
)
def test_quota(tmp_path, text, cpus):
    (tmp_path / "cpu.max").write_text(text)
    assert count_container_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("text", "cpus"), [("300000\n", 3), ("-1\n", None)])
def test_quota_of_the_first_version(tmp_path, text, cpus):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(text)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert count_container_cpus(tmp_path) == cpus


def test_no_limit_where_there_are_no_groups(tmp_path):
    assert count_container_cpus(tmp_path) is None


@pytest.mark.parametrize(("allowed", "found"), [(1, 1), (8, 2), (None, 2)])
def test_threads(monkeypatch, allowed, found):
    monkeypatch.setattr(threads, "count_container_cpus", lambda: allowed)
    torch.set_num_threads(2)
    limit_threads()
    assert torch.get_num_threads() == found


def test_a_run_with_its_own_number_of_threads_leaves_that_of_the_process(tmp_path):
    torch.set_num_threads(2)
    task = Tiny()
    training = TrainingSettings(updates=1, threads=1)
    run = fit(task, task.load(), MLE(), training=training, output=tmp_path / "out", quiet=True)
    assert find_record(tmp_path / "out")[1].versions["threads"] == 1
    assert (run.updates, torch.get_num_threads()) == (1, 2)
