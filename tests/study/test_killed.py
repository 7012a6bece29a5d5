"""kill -9 at any moment of `train` and `compare`: what is started again ends as if nothing was."""

from __future__ import annotations

import json
import random
import signal
import time

import pytest

from tests.training.children import CONTEXT, alone, tiny_comparison, tiny_fit

pytestmark = pytest.mark.slow
MOMENTS = 20
TARGETS = {"train": tiny_fit, "compare": tiny_comparison}
TIMES = ("seconds", "seconds_per_update", "time_relative_to_mle", "date", "sha256")


@pytest.fixture(scope="module", params=TARGETS)
def uninterrupted(request, tmp_path_factory):
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
