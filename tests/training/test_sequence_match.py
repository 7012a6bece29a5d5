"""SequenceMatch trained: processes, accumulation, checkpoints, adapters and precision."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.training import outcomes
from tests.training.children import CONTEXT, alone, fused, together
from tests.training.matching import MATCH, cut, matched
from tests.training.outcomes import close
from tests.training.test_resume import KILLED, outcome
from tests.training.tiny_models import tiny_model

LOGGED = ("loss", "sequence_match", "behavior_cloning", "step")


def result(output):
    logs = (output / "log.json").read_text()
    assert all(f'"{name}"' in logs for name in ("own_backspaces", "own_ended", "staleness"))
    return outcomes.result(output, LOGGED)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    output = tmp_path_factory.mktemp("plain")
    assert alone(matched, str(output)) == 0
    return result(output)


@pytest.mark.parametrize(
    ("processes", "settings"),
    [
        (1, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
        (1, {"gradient_checkpointing": True}),
        (2, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
        pytest.param(2, {"per_device_train_batch_size": 4, "fsdp": True}, marks=pytest.mark.slow),
    ],
    ids=["accumulated", "checkpointed", "replicated", "sharded"],
)
def test_how_an_update_is_computed_changes_nothing(plain, tmp_path, processes, settings):
    run = partial(matched, **settings)
    if processes == 1:
        assert alone(run, str(tmp_path)) == 0
    else:
        assert together(processes, run, str(tmp_path)) == [0, 0]
    close(plain, result(tmp_path), 1e-10)


def test_a_recurrent_run_is_resumed_to_the_bit(tmp_path):
    """Killed while saving, too: the buffer is part of every checkpoint."""
    whole, killed, count = tmp_path / "whole", tmp_path / "cut", CONTEXT.Value("i", 0)
    assert alone(fused, str(whole), None, count, MATCH) == 0
    for event in (count.value // 2, count.value // 4):
        assert alone(fused, str(killed), event, CONTEXT.Value("i", 0), MATCH) == KILLED
    assert alone(fused, str(killed), None, CONTEXT.Value("i", 0), MATCH) == 0
    assert outcome(killed) == outcome(whole)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_causal_run_is_resumed_to_the_bit(tmp_path, processes):
    settings = {"dropout": 0.3, "dtype": "float32", "save_strategy": "steps", "save_steps": 1}
    settings["per_device_train_batch_size"] = 8 // processes

    def run(target, output, *rest):
        if processes == 1:
            return [alone(partial(target, **settings), str(output), *rest)]
        return together(2, partial(target, **settings), str(output), *rest)

    assert run(matched, tmp_path / "whole") == [0] * processes
    assert run(cut, tmp_path / "cut", 5) == [7] * processes
    assert run(matched, tmp_path / "cut") == [0] * processes
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_adapters_learn_the_row_of_the_backspace(tmp_path):
    base = tmp_path / "base"
    tiny_model("gpt2", dtype=torch.float64).save_pretrained(base)
    assert alone(matched, str(tmp_path / "run"), str(base)) == 0
    weights, logs = result(tmp_path / "run")
    assert any("trainable_tokens" in name for name in weights)
    assert all("lora" in name or "trainable_tokens" in name for name in weights)
    assert "sequence_match" in logs[-1]


def test_half_precision(tmp_path):
    assert alone(partial(matched, dtype="float32", bf16=True), str(tmp_path)) == 0
    _, logs = result(tmp_path)
    assert all(torch.tensor(entry["loss"]).isfinite() for entry in logs)
