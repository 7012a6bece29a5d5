"""The recurrent policy's settings and sources that cannot be, and its way to disk and back."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from freerun.models import RecurrentConfig, RecurrentPolicy
from freerun.vocabulary import Vocabulary
from tests.helpers import SOURCES, raises, tiny_policy, tiny_source, vocabulary
from tests.models.kinds import KINDS, name, policy_of


@pytest.mark.parametrize("reads", SOURCES)
@pytest.mark.parametrize("given", SOURCES)
def test_a_source_of_another_kind_is_refused(reads, given):
    kinds = {"tokens": ("tokens", 1), "factors": ("tokens", 3), "real": ("features", 3)}
    policy, source = tiny_policy(source=reads), tiny_source(tiny_policy(source=given))
    if reads == given:
        policy.start(source)
        return
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        policy.start(source)
    (holds, width), (wants, wide) = kinds[given], kinds[reads]
    assert str(caught.value) == (
        f"the source has {holds} ({width} at a position), this encoder reads {wants} ({wide})"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_feeding": True}, "input_feeding needs attention: without it, there is no "
         "attentional output to feed"),
        ({"attention": "aligned"}, "attention='aligned' needs targets as long as their source, but "
         "this vocabulary has an eos"),
        ({"limit": None}, "limit is given exactly where the vocabulary has an eos"),
        ({"limit": 0}, "limit is 0; it must be at least 1"),
        ({"features": 2}, "give features (real-valued inputs) or factors (token inputs)"),
        ({"factors": ()}, "give features (real-valued inputs) or factors (token inputs)"),
        ({"factors": (), "features": 0}, "features is 0; it must be at least 1"),
        ({"factors": (3, 0)}, "factors are [3, 0]; each must be at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0; it must lie in [0, 1)"),
        ({"dropout": -0.1}, "dropout is -0.1; it must lie in [0, 1)"),
        ({"layers": 0}, "layers is 0; it must be at least 1"),
        ({"hidden_size": 0}, "hidden_size is 0; it must be at least 1"),
        ({"embedding_size": -1}, "embedding_size is -1; it must be at least 1"),
        ({"layers": 1.5}, "Field 'layers' expected int, got float (value: 1.5)"),
        ({"cell": "rnn"}, "Field 'cell' expected one of ('gru', 'lstm'), got rnn"),
        ({"hiden_size": 3}, "a recurrent policy has no setting 'hiden_size'; did you mean "
         "hidden_size?"),
        ({"colour": 3}, "a recurrent policy has no setting 'colour'"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, message):
    with raises(ValueError, message):
        RecurrentConfig.from_vocabulary(vocabulary(), **{"factors": (3,), "limit": 4, **settings})


def test_a_limit_without_eos_is_refused():
    with pytest.raises(
        ValueError, match=r"^limit is given exactly where the vocabulary has an eos$"
    ):
        RecurrentConfig.from_vocabulary(vocabulary(eos=False), factors=(3,), limit=4)


def test_a_policy_needs_words():
    message = r"^RecurrentConfig.symbols is empty: name the tokens to be written$"
    with pytest.raises(ValueError, match=message):
        RecurrentPolicy(RecurrentConfig())


# To disk and back


@pytest.mark.parametrize("turn", range(0, len(KINDS), 3), ids=[name(k) for k in KINDS[::3]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_policy_comes_back_bit_by_bit(turn, dtype, tmp_path):
    policy = policy_of(turn, dropout=0.25).to(dtype)
    policy.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]
    again = RecurrentPolicy.from_pretrained(tmp_path)
    assert again.vocabulary == policy.vocabulary
    assert again.dtype == dtype
    assert not again.training
    weights = policy.state_dict()
    assert list(again.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[key]) for key, value in again.state_dict().items())
    for key in ("factors", "features", "limit", "dropout", "cell", "attention", "input_feeding"):
        kept, given = getattr(again.config, key), getattr(policy.config, key)
        assert kept == (list(given) if isinstance(given, tuple) else given)


def test_any_symbol_comes_back(tmp_path):
    words = Vocabulary(
        ("ü", " ", "\n", "", "\u2028", "🙂", "<eos>"), bos=9, pad=6, eos=6, backspace=2, unknown=3
    )
    tiny_policy(words=words).save_pretrained(tmp_path)
    assert RecurrentPolicy.from_pretrained(tmp_path).vocabulary == words


@pytest.fixture
def saved(tmp_path):
    tiny_policy(hidden_size=4).save_pretrained(tmp_path)
    return tmp_path


def refused(path: Path, kind, message):
    with raises(kind, message):
        RecurrentPolicy.from_pretrained(path)


def test_pickled_weights_are_not_read(saved):
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    refused(saved, OSError, f"Error no file named model.safetensors found in directory {saved}.")


def change(saved, missing=None, **more):
    weights = load_file(saved / "model.safetensors")
    weights.pop(missing, None)
    save_file({**weights, **more}, saved / "model.safetensors", metadata={"format": "pt"})


WRONG = "the weights are not those of this model: "


def test_missing_weights_are_refused(saved):
    change(saved, missing="output.bias")
    refused(saved, ValueError, f"{WRONG}output.bias is missing")


def test_unknown_weights_are_refused(saved):
    change(saved, extra=torch.zeros(2))
    refused(saved, ValueError, f"{WRONG}extra is unknown")


def test_weights_of_another_size_are_refused(saved):
    settings = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**settings, "hidden_size": 5}))
    shapes = "has shape [12] instead of [15]"
    refused(saved, ValueError, f"{WRONG}decoder.layers.0.bias_hh_l0 {shapes}")
