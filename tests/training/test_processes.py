"""One process or several, one batch or several: the same result."""

from __future__ import annotations

import signal
from functools import partial

import pytest
import safetensors.torch
import torch

from tests.training import huggingface
from tests.training.children import (
    AVERAGED,
    BUFFERED,
    CRITIC,
    LEARNED,
    MOVING,
    alone,
    bereaved,
    exact,
    interrupted,
    sharded_fit,
    tiny_fit,
    together,
    two_fits,
    uneven,
)
from tests.training.outcomes import close, result
from tests.training.tiny_models import tiny_model


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    output = tmp_path_factory.mktemp("plain")
    assert alone(exact, str(output), 8, 1, {}) == 0
    return result(output)


def agree(one, other):
    close(one, other)
    assert sum("eval_character_error" in entry for entry in one[1]) == 2
    assert sum("own_share" in entry for entry in one[1]) == 3


@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 4), (4, 2), (1, 8)])
def test_accumulation_changes_nothing(plain, tmp_path, batch_size, accumulation):
    assert alone(exact, str(tmp_path), batch_size, accumulation, {}) == 0
    agree(plain, result(tmp_path))


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2)])
def test_two_processes_change_nothing(plain, tmp_path, batch_size, accumulation):
    assert together(2, exact, str(tmp_path), batch_size, accumulation, {}) == [0, 0]
    agree(plain, result(tmp_path))


@pytest.mark.parametrize(
    "method",
    [MOVING, LEARNED, CRITIC, BUFFERED, AVERAGED],
    ids=["mean", "learned", "critic", "buffer", "average"],
)
def test_how_an_update_is_computed_does_not_change_states(tmp_path, method):
    """Moving means and buffers are those of all batches and processes; so are the metrics."""
    outputs = [tmp_path / name for name in ("plain", "accumulated", "replicated")]
    assert alone(exact, str(outputs[0]), 8, 1, {}, method) == 0
    assert alone(exact, str(outputs[1]), 2, 4, {}, method) == 0
    assert together(2, exact, str(outputs[2]), 4, 1, {}, method) == [0, 0]
    expected = result(outputs[0])
    for output in outputs[1:]:
        close(expected, result(output))


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


def test_fit_with_sharded_parameters(tmp_path):
    assert together(2, sharded_fit, str(tmp_path / "two")) == [0, 0]
    tiny_fit(str(tmp_path / "one"), dropout=0.0, patience=None)
    one, two = (
        safetensors.torch.load_file(tmp_path / name / "model.safetensors")
        for name in ("one", "two")
    )
    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def alone_exact(tmp_path_factory):
    """A Hugging Face model in one process, by its kind, or adapters of it."""
    found = {}

    def of(kind, base=None):
        if (kind, base) not in found:
            output = tmp_path_factory.mktemp("alone")
            assert alone(huggingface.exact, str(output), kind, base) == 0
            found[kind, base] = result(output)
        return found[kind, base]

    return of


@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
def test_two_processes_of_a_causal_model(alone_exact, tmp_path, sharded):
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    settings |= {"fsdp": True} if sharded else {}
    children = together(2, partial(huggingface.exact, **settings), str(tmp_path), "gpt2")
    assert children == [0, 0]
    close(alone_exact("gpt2"), result(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_processes_of_other_models(alone_exact, tmp_path, kind, sharded, checkpointing):
    settings = {"per_device_train_batch_size": 4, "activation_checkpointing": checkpointing}
    settings |= {"fsdp": True} if sharded else {}
    children = together(2, partial(huggingface.exact, **settings), str(tmp_path), kind)
    assert children == [0, 0]
    close(alone_exact(kind), result(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
def test_two_processes_of_adapters(alone_exact, tmp_path, tmp_path_factory, sharded):
    base = tmp_path_factory.mktemp("base")
    tiny_model("gpt2", dtype=torch.float64).save_pretrained(base)
    settings = {"per_device_train_batch_size": 4} | ({"fsdp": True} if sharded else {})
    run = partial(huggingface.exact, **settings)
    assert together(2, run, str(tmp_path), "gpt2", str(base)) == [0, 0]
    close(alone_exact("gpt2", str(base)), result(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["relaxed", "searched"])
def test_processes_may_make_different_numbers_of_passes(tmp_path, method):
    """Sharded parameters are gathered once for an update, so nothing waits for the others."""
    assert alone(huggingface.exact_by, str(tmp_path / "one"), method) == 0
    run = partial(huggingface.exact_by, fsdp=True, per_device_train_batch_size=4)
    assert together(2, run, str(tmp_path / "two"), method) == [0, 0]
    close(result(tmp_path / "one"), result(tmp_path / "two"))


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
def test_two_processes_of_a_causal_model_resume_to_the_bit(tmp_path, sharded):
    settings = {"per_device_train_batch_size": 4} | ({"fsdp": True} if sharded else {})
    run = partial(huggingface.resumable, base=None, **settings)
    killed = partial(huggingface.killed, base=None, update=5, **settings)
    assert together(2, run, str(tmp_path / "whole")) == [0, 0]
    assert together(2, killed, str(tmp_path / "killed")) == [7, 7]
    assert together(2, run, str(tmp_path / "killed")) == [0, 0]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]


def test_a_sharded_run_goes_on_sharded(tmp_path):
    run = partial(huggingface.resumable, base=None, per_device_train_batch_size=4)
    assert together(2, run, str(tmp_path)) == [0, 0]
    assert together(2, huggingface.sharded_from, str(tmp_path)) == [0, 0]


def test_the_rank_that_died_is_named(tmp_path):
    assert together(2, bereaved, str(tmp_path), 8) == [0, -signal.SIGKILL]
    dead = (tmp_path / "pid-1").read_text()
    assert (tmp_path / "error-0").read_text() == (
        f"ProcessError: rank 1 (process {dead}) of this run has ended, see above for a message of "
        "it; the same command resumes from the last checkpoint"
    )


def test_two_processes_warn_of_nothing(tmp_path, capfd):
    assert together(2, tiny_fit, str(tmp_path)) == [0, 0]
    assert "find_unused_parameters" not in capfd.readouterr().err
