"""kill -9 at any moment of `train` and `compare`: what is started again ends as if nothing was."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.training.children import (
    CONTEXT,
    PRELOADED,
    alone,
    tiny_comparison,
    tiny_fit,
    tuned_comparison,
)

pytestmark = pytest.mark.slow
MOMENTS, MOMENTS_OF_JOBS = 20, 8
TARGETS = {"train": tiny_fit, "compare": tiny_comparison}
TIMES = ("seconds", "seconds_per_update", "time_relative_to_mle", "date", "sha256")


@pytest.fixture(scope="module", params=TARGETS)
def uninterrupted(request, tmp_path_factory):
    # Otherwise many of the moments would be those of an import.
    CONTEXT.set_forkserver_preload([*PRELOADED, "matplotlib.backends.backend_agg"])
    output = tmp_path_factory.mktemp(request.param) / "whole"
    started = time.monotonic()
    assert alone(TARGETS[request.param], str(output)) == 0
    return TARGETS[request.param], output, time.monotonic() - started


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def outcome(output):
    """Weights, outputs and records of all that is there, and the results of a comparison."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.suffix in (".safetensors", ".jsonl"):
            found[name] = path.read_bytes()
        elif path.name in ("freerun.json", "comparison.json", "results.json"):
            found[name] = without_times(json.loads(path.read_text()))
    return found


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_and_started_again_is_the_same(uninterrupted, tmp_path, moment):
    target, whole, seconds = uninterrupted
    output, rng = tmp_path / "run", random.Random(moment)
    process = CONTEXT.Process(target=target, args=(str(output),))
    process.start()
    time.sleep(seconds * (moment + rng.random()) / MOMENTS)
    process.kill()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)
    assert alone(target, str(output)) == 0
    assert outcome(output) == outcome(whole)
    assert not list(output.rglob(".*"))


def find_workers(number):
    """The workers that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = path.with_name("cmdline").read_bytes()
            if parent == number and b"spawn_main" in command:
                found.append(int(path.parent.name))
    return found


def is_running(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module", params=[tiny_comparison, tuned_comparison])
def with_two_jobs(request, tmp_path_factory):
    output = tmp_path_factory.mktemp("jobs") / "whole"
    started = time.monotonic()
    assert alone(request.param, str(output), 2) == 0
    return request.param, output, time.monotonic() - started


def test_tuning_side_by_side_is_tuning_in_turn(tmp_path):
    for jobs in (1, 2):
        assert alone(tuned_comparison, str(tmp_path / str(jobs)), jobs) == 0
    assert outcome(tmp_path / "2") == outcome(tmp_path / "1")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("moment", range(MOMENTS_OF_JOBS))
def test_runs_side_by_side_are_killed_and_started_again(with_two_jobs, tmp_path, moment):
    """The process that was started is killed, or one of its workers."""
    target, whole, seconds = with_two_jobs
    output, rng = tmp_path / "run", random.Random(moment)
    process = CONTEXT.Process(target=target, args=(str(output), 2))
    process.start()
    # Most of the time goes by while libraries are imported: the moments are those after it.
    time.sleep(seconds * (0.3 + 0.7 * (moment + rng.random()) / MOMENTS_OF_JOBS))
    workers = find_workers(process.pid)
    if moment % 2 == 0 or not workers:
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
    process.join()
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
    assert alone(target, str(output), 2) == 0
    assert outcome(output) == outcome(whole)
    assert not list(output.rglob(".*"))
