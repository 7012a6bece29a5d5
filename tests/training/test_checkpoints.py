"""Reading checkpoints, good and bad; folders that appear as a whole."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from freerun.errors import CheckpointError
from freerun.methods import SelfDistillation
from freerun.models.settings import RecurrentSettings
from freerun.training import load_policy
from freerun.training.checkpoints import load_weights
from freerun.training.folders import (
    checkpoints,
    delete_folder,
    find_newest_checkpoint,
    finish_folder,
    get_temporary_path,
    parse_update,
    rotate,
    sweep,
)
from freerun.training.objective import Objective
from freerun.training.overrides import _module_state
from tests.codecs import letters_of_images
from tests.helpers import raises
from tests.models.models import tiny_adapted
from tests.training.tiny_task import TinyCodec

CODEC = TinyCodec()


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "model"
    policy = RecurrentSettings(hidden_size=8, embedding_size=6).build(CODEC)
    policy.save_pretrained(folder)
    CODEC.save_pretrained(str(folder))
    return folder, policy


def refused(folder, message):
    with raises(CheckpointError, message):
        load_policy(folder, TinyCodec)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_was_saved_is_read(saved, dtype):
    folder, policy = saved
    policy.to(dtype).save_pretrained(folder)
    before = torch.get_rng_state()
    found, codec = load_policy(str(folder), TinyCodec)
    assert torch.equal(torch.get_rng_state(), before)
    assert codec == CODEC
    assert not found.training
    assert found.vocabulary == policy.vocabulary
    own = policy.state_dict()
    assert own.keys() == found.state_dict().keys()
    for name, value in found.state_dict().items():
        assert value.dtype == dtype
        assert torch.equal(own[name], value)


def test_no_such_directory(tmp_path):
    refused(tmp_path / "nowhere", f"{tmp_path / 'nowhere'}: there is no such directory")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(saved, name):
    folder, _ = saved
    (folder / name).unlink()
    refused(folder, f"{folder / name}: there is no such file; is {folder} a checkpoint?")


def test_missing_codec(saved):
    folder, _ = saved
    folder = folder.rename(folder.with_name("a model"))
    (folder / "codec.json").unlink()
    refused(
        folder,
        f"{folder / 'codec.json'}: there is no such file, so freerun did not train this "
        f"model; continue training it first: freerun train TASK --model '{folder}'",
    )


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights(saved, kept):
    folder, _ = saved
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: truncated or damaged \\("):
        load_policy(folder, TinyCodec)


def test_truncated_configuration(saved):
    folder, _ = saved
    path = folder / "config.json"
    path.write_text(path.read_text()[:30])
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: not JSON \\("):
        load_policy(folder, TinyCodec)
    path.write_text("[]")
    refused(folder, f"{path}: it must hold a JSON object")


def test_another_kind_of_model(saved):
    folder, _ = saved
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": "vit"}))
    refused(
        folder, f"{folder}: vit is neither a causal model nor an encoder-decoder that writes text"
    )


def test_a_configuration_out_of_range(saved):
    folder, _ = saved
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": 0}))
    refused(folder, f"{path}: hidden_size is 0; it must be at least 1")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"hidden_size": 9}, "encoder.layers.weight_ih_l0 has shape [27, 6], not [24, 6]"),
        ({"layers": 2}, "decoder.layers.1.bias_hh_l0 is not part of it"),
        ({"attention": "general"}, "attention.combine.weight is not part of it"),
    ],
)
def test_weights_of_another_model(saved, settings, fault):
    folder, _ = saved
    plain = {"hidden_size": 8, "embedding_size": 6}
    other = RecurrentSettings(**{**plain, **settings}).build(CODEC)
    path = folder / "model.safetensors"
    safetensors.torch.save_file(other.state_dict(), path)
    refused(folder, f"{path}: weights of another model: {fault}")


def test_a_weight_is_missing(saved):
    folder, policy = saved
    path = folder / "model.safetensors"
    weights = policy.state_dict()
    del weights["output.bias"]
    safetensors.torch.save_file(weights, path)
    refused(folder, f"{path}: weights of another model: output.bias is missing")


def test_modules_with_tied_weights_are_saved(tmp_path):
    """Such as the copy of a model whose output layer is its embedding."""
    policy = tiny_adapted("gpt2", letters="abc")
    method = SelfDistillation(decay=0.5)
    state = Objective(policy, method).state_dict()
    own = {name: value for name, value in state.items() if name.startswith("method_modules.")}
    assert len({value.data_ptr() for value in own.values()}) < len(own)
    safetensors.torch.save_file(_module_state(state), tmp_path / "modules")
    found = safetensors.torch.load_file(tmp_path / "modules")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], value) for name, value in own.items())


def test_tied_weights_are_stored_once(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Linear(3, 3)
            self.two = self.one

    torch.manual_seed(0)
    whole, path = Tied(), tmp_path / "model.safetensors"
    safetensors.torch.save_file(whole.one.state_dict(prefix="one."), path)
    other = Tied()
    load_weights(other, path)
    assert torch.equal(other.two.weight, whole.two.weight)


@pytest.mark.parametrize(
    ("codec", "difference"),
    [
        (TinyCodec(eos=False), "the number of symbols of the model is 5, of the task 4"),
        (TinyCodec(letters=5), "the number of source tokens of the model is 4, of the task 5"),
    ],
)
def test_configuration_and_codec_disagree(saved, codec, difference):
    folder, _ = saved
    codec.save_pretrained(str(folder))
    refused(folder, f"{folder}: config.json and codec.json disagree: {difference}")


def test_other_symbols(saved):
    folder, policy = saved
    policy.config.symbols = ["a", "b", "x", "d", "<eos>"]
    policy.config.save_pretrained(folder)
    refused(
        folder,
        f"{folder}: config.json and codec.json disagree: symbol 2 of the model is 'x', of the "
        "task 'c'",
    )


def test_another_unknown(saved):
    folder, policy = saved
    policy.config.unknown = 2
    policy.config.save_pretrained(folder)
    refused(
        folder,
        f"{folder}: config.json and codec.json disagree: unknown of the model is 2, of the task "
        "None",
    )


def test_the_codec_of_a_known_task_is_found(tmp_path):
    codec = letters_of_images()
    policy = RecurrentSettings(hidden_size=4, embedding_size=4).build(codec)
    policy.save_pretrained(tmp_path)
    codec.save_pretrained(str(tmp_path))
    found, read = load_policy(tmp_path)
    assert (type(read), read.target, read.width) == (type(codec), codec.target, codec.width)
    assert replace(
        RecurrentSettings.from_config(found.config), hidden_size=4
    ) == RecurrentSettings.from_config(found.config)


def folders(output, *updates):
    for update in updates:
        (output / f"checkpoint-{update}").mkdir(parents=True)
        (output / f"checkpoint-{update}" / "file").write_text(str(update))


def names(output):
    return [path.name for path in checkpoints(output)]


def test_checkpoints_are_ordered_by_update(tmp_path):
    folders(tmp_path, 100, 9, 20)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / ".checkpoint-200.new.tmp").mkdir()
    assert names(tmp_path) == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]
    assert find_newest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert parse_update(tmp_path / "checkpoint-20") == 20
    assert find_newest_checkpoint(tmp_path / "nowhere") is None
    with pytest.raises(CheckpointError, match="a checkpoint is called checkpoint-UPDATE"):
        parse_update(tmp_path / "checkpoint-best")


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [1, 2, 3, 4]),
        (1, None, [4]),
        (2, None, [3, 4]),
        (2, 1, [1, 4]),
        (1, 2, [2, 4]),
        (2, 4, [3, 4]),
        (3, 1, [1, 3, 4]),
        (9, 1, [1, 2, 3, 4]),
        (2, 7, [3, 4]),
    ],
)
def test_rotation_keeps_the_best_and_the_newest(tmp_path, limit, best, kept):
    folders(tmp_path, 1, 2, 3, 4)
    rotate(tmp_path, limit, None if best is None else tmp_path / f"checkpoint-{best}")
    assert names(tmp_path) == [f"checkpoint-{update}" for update in kept]
    assert len(list(tmp_path.iterdir())) == len(kept)


def test_nothing_to_rotate(tmp_path):
    rotate(tmp_path, 1, None)


def test_publishing_replaces_as_a_whole(tmp_path):
    folders(tmp_path, 1)
    written = get_temporary_path(tmp_path / "checkpoint-1")
    written.mkdir()
    (written / "file").write_text("new")
    assert names(tmp_path) == ["checkpoint-1"]
    finish_folder(written, tmp_path / "checkpoint-1")
    assert (tmp_path / "checkpoint-1" / "file").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_left_over_is_swept_away(tmp_path):
    folders(tmp_path, 1)
    get_temporary_path(tmp_path / "checkpoint-2").mkdir()
    get_temporary_path(tmp_path / "checkpoint-1", "old").mkdir()
    (tmp_path / ".notes.tmp").write_text("not ours")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.tmp", "checkpoint-1"]


def test_discarding_takes_the_name_away_first(tmp_path, monkeypatch):
    folders(tmp_path, 1)

    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        delete_folder(tmp_path / "checkpoint-1")
    assert names(tmp_path) == []
