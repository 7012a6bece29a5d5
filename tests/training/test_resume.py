"""Runs that are cut short, at any moment, end as if they had not been."""

from __future__ import annotations

import json
import random
import signal

import pytest

from freerun.training.folders import checkpoints
from tests.training.children import (
    AVERAGED,
    BUFFERED,
    CONTEXT,
    CRITIC,
    LEARNED,
    MOVING,
    SEARCH,
    alone,
    cramped,
    fused,
    signalled,
)

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    count = CONTEXT.Value("i", 0)
    assert alone(fused, str(output), None, count) == 0
    record = json.loads((output / "freerun.json").read_text())
    assert (record["results"]["updates"], record["results"]["best_update"]) == (15, 9)
    return output, count.value


def outcome(output):
    record = json.loads((output / "freerun.json").read_text())
    del record["sha256"]  # of times, too
    results = record["results"]
    for point in (results, *results["curve"]):
        del point["seconds"]
    del results["seconds_per_update"]
    return record, (output / "model.safetensors").read_bytes()


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_random_moments_and_resumed_is_the_same_to_the_bit(uninterrupted, tmp_path, seed):
    whole, events = uninterrupted
    rng, output = random.Random(seed), tmp_path / "run"
    codes = [
        alone(fused, str(output), rng.randint(1, events * 2 // 3), CONTEXT.Value("i", 0))
        for _ in range(2)
    ]
    assert codes[0] == KILLED
    assert alone(fused, str(output), None, CONTEXT.Value("i", 0)) == 0
    assert outcome(output) == outcome(whole)
    assert not list(output.glob(".*"))


@pytest.mark.parametrize(
    "method",
    [SEARCH, MOVING, LEARNED, CRITIC, BUFFERED, AVERAGED],
    ids=["searnn", "mean", "learned", "critic", "buffer", "average"],
)
def test_methods_with_samples_and_state_are_resumed_to_the_bit(tmp_path, method):
    """With dropout, mixed roll-in and roll-out, samples, and chosen cells and tokens; baselines."""
    whole, cut, count = tmp_path / "whole", tmp_path / "cut", CONTEXT.Value("i", 0)
    assert alone(fused, str(whole), None, count, method) == 0
    for event in (count.value // 3, count.value // 4):
        assert alone(fused, str(cut), event, CONTEXT.Value("i", 0), method) == KILLED
    assert alone(fused, str(cut), None, CONTEXT.Value("i", 0), method) == 0
    assert outcome(cut) == outcome(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("raises", [False, True])
def test_told_to_stop_it_saves_and_is_resumed_to_the_bit(uninterrupted, tmp_path, number, raises):
    """In the middle of update 8; with what the signal does otherwise as its end."""
    output = tmp_path / "run"
    assert alone(signalled, str(output), 8, number, raises) == (5 if raises else -number)
    assert checkpoints(output)[-1].name == "checkpoint-8"
    assert not list(output.glob(".*"))
    assert alone(fused, str(output), None, CONTEXT.Value("i", 0)) == 0
    (record, weights), (other, whole) = outcome(output), outcome(uninterrupted[0])
    assert weights == whole
    for point, same in zip(record["results"]["curve"], other["results"]["curve"], strict=True):
        assert point == pytest.approx(same, rel=1e-6)  # a loss is a mean of two means


@pytest.mark.slow
def test_killed_at_every_single_moment_and_resumed_is_the_same_to_the_bit(uninterrupted, tmp_path):
    whole, events = uninterrupted
    for event in range(1, events + 1):
        output = tmp_path / str(event)
        assert alone(fused, str(output), event, CONTEXT.Value("i", 0)) == KILLED
        assert alone(fused, str(output), None, CONTEXT.Value("i", 0)) == 0
        assert outcome(output) == outcome(whole)
        assert not list(output.glob(".*"))


@pytest.mark.parametrize("limit", [0, 400, 2_000, 12_000, 18_000])
def test_no_space_left_while_saving(uninterrupted, tmp_path, limit):
    output, (here, there) = tmp_path / "run", CONTEXT.Pipe()
    assert alone(cramped, str(output), 8, limit, there) == 0
    message = here.recv()
    assert message.startswith(f"CheckpointError: {output}: cannot save checkpoint-9 (")
    assert message.endswith(
        "): is the disk full? checkpoint-6 is intact; run again to resume from it"
    )
    assert not list(output.glob(".*"))
    assert alone(fused, str(output), None, CONTEXT.Value("i", 0)) == 0
    assert outcome(output) == outcome(uninterrupted[0])


def test_no_space_left_at_the_start(tmp_path):
    output, (here, there) = tmp_path / "run", CONTEXT.Pipe()
    assert alone(cramped, str(output), 1, 12_000, there) == 0
    assert here.recv() == (
        f"CheckpointError: {output}: cannot save checkpoint-3 (basic_ios::clear: iostream error): "
        "is the disk full?"
    )
