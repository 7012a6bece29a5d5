"""One process or several, one batch or several: the same result."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from tests.trainer.children import (
    alone,
    exact,
    interrupted,
    tiny_fit,
    together,
    two_fits,
    uneven,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    output = tmp_path_factory.mktemp("plain")
    assert alone(exact, str(output), 8, 1, {}) == 0
    return result(output)


def result(output):
    weights = safetensors.torch.load_file(output / "model.safetensors")
    logs = json.loads((output / "log.json").read_text())
    kept = ("loss", "grad_norm", "own_share", "eval_", "step")
    return weights, [
        {name: value for name, value in entry.items() if name.startswith(kept)}
        for entry in logs
        if "train_loss" not in entry
    ]


def agree(one, other):
    assert one[0].keys() == other[0].keys()
    for name, weight in one[0].items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(other[0][name], weight, rtol=0, atol=1e-12)
    assert sum("eval_character_error" in entry for entry in one[1]) == 2
    assert sum("own_share" in entry for entry in one[1]) == 3
    assert len(one[1]) == len(other[1])
    for entry, same in zip(one[1], other[1], strict=True):
        assert same == pytest.approx(entry, rel=1e-6)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 4), (4, 2), (1, 8)])
def test_accumulation_changes_nothing(plain, tmp_path, batch_size, accumulation):
    assert alone(exact, str(tmp_path), batch_size, accumulation, {}) == 0
    agree(plain, result(tmp_path))


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2)])
def test_two_processes_change_nothing(plain, tmp_path, batch_size, accumulation):
    assert together(2, exact, str(tmp_path), batch_size, accumulation, {}) == [0, 0]
    agree(plain, result(tmp_path))


def test_two_processes_resume_to_the_bit(tmp_path):
    for name in ("whole", "interrupted"):
        if name == "interrupted":
            assert together(2, interrupted, str(tmp_path / name), 8) == [7, 7]
            assert (tmp_path / name / "checkpoint-6" / "rng_state_1.pth").exists()
        assert together(2, tiny_fit, str(tmp_path / name)) == [0, 0]
    weights = [
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "interrupted")
    ]
    assert weights[0] == weights[1]


def test_batches_are_dealt_evenly(tmp_path):
    assert together(2, uneven, str(tmp_path)) == [0, 0]


def test_fit_in_two_processes(tmp_path):
    assert together(2, two_fits, str(tmp_path / "two"), 0.5) == [0, 0]
    tiny_fit(str(tmp_path / "one"), dropout=0.0, patience=None)
    one = safetensors.torch.load_file(tmp_path / "one" / "model.safetensors")
    two = safetensors.torch.load_file(tmp_path / "two" / "updates" / "model.safetensors")
    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)
