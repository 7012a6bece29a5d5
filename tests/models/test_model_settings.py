"""The settings of models: what they build, what they refuse, and how they are written down."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import BartForConditionalGeneration, GPT2LMHeadModel

from freerun.data import FactorCodec
from freerun.data.prose import SYMBOLS
from freerun.models import CausalPolicy, Seq2SeqPolicy
from freerun.models.settings import (
    KINDS,
    CausalSettings,
    PretrainedSettings,
    RecurrentSettings,
    Seq2SeqSettings,
    build_from_record,
    describe_difference,
    find_model_kind,
)
from freerun.settings import SettingError
from tests.codecs import character_codec, letters_of_images
from tests.helpers import raises
from tests.training.tiny_task import TinyCodec

CODEC = character_codec(SYMBOLS)
SMALL = {"hidden_size": 8, "layers": 1, "heads": 2}
SCRATCH = [CausalSettings, Seq2SeqSettings]


def weights(settings, codec=CODEC, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return settings.build(codec).state_dict()


def test_a_causal_decoder_by_default_has_about_a_million_parameters():
    policy = CausalSettings().build(CODEC)
    assert 0.8e6 < sum(p.numel() for p in policy.parameters()) < 1.2e6


def test_a_causal_model_is_what_its_settings_say():
    settings = CausalSettings(**SMALL, feed_forward=12, dropout=0.25)
    policy = settings.build(CODEC)
    assert isinstance(policy, CausalPolicy)
    assert isinstance(policy.model, GPT2LMHeadModel)
    config = policy.config
    assert (config.n_embd, config.n_layer, config.n_head, config.n_inner) == (8, 1, 2, 12)
    assert {config.resid_pdrop, config.embd_pdrop, config.attn_pdrop} == {0.25}
    # Symbols, eos, bos and pad; then those of sources.
    assert config.vocab_size == CODEC.target.size + CODEC.factors[0]
    words = CODEC.target
    special = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    assert special == (words.bos, words.eos, words.pad)
    assert policy.vocabulary == words
    assert not policy.shared
    assert policy.max_new_tokens == CODEC.limit


def test_an_encoder_decoder_is_what_its_settings_say():
    policy = Seq2SeqSettings(**{**SMALL, "layers": 2}, dropout=0.25).build(CODEC)
    assert isinstance(policy, Seq2SeqPolicy)
    assert isinstance(policy.model, BartForConditionalGeneration)
    config = policy.config
    assert (config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim) == (8, 32, 32)
    assert (config.encoder_attention_heads, config.decoder_attention_heads) == (2, 2)
    assert (config.encoder_layers, config.decoder_layers, config.dropout) == (2, 2, 0.25)
    assert config.decoder_start_token_id == CODEC.target.bos
    assert config.forced_eos_token_id is None
    assert policy.max_positions == 512


@pytest.mark.parametrize(
    ("settings", "limit", "positions"), [({}, 16, 512), ({}, 301, 602), ({"positions": 40}, 16, 40)]
)
def test_the_positions_of_a_causal_model(settings, limit, positions):
    codec = TinyCodec(longest=limit - 1)
    assert CausalSettings(**SMALL, **settings).build(codec).max_positions == positions


@pytest.mark.parametrize("cls", SCRATCH)
def test_weights_follow_the_seed_and_nothing_else(cls):
    first, again, other = (weights(cls(**SMALL), seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("cls", SCRATCH)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0; it must be at least 1"),
        ({"layers": 0}, "layers is 0; it must be at least 1"),
        ({"heads": 0}, "heads is 0; it must be at least 1"),
        ({"feed_forward": 0}, "feed_forward is 0; it must be at least 1"),
        ({"heads": 3}, "hidden_size is 128; it must be a multiple of heads, 3"),
        ({"dropout": 1.0}, "dropout is 1.0; it must lie in [0, 1)"),
    ],
)
def test_settings_out_of_range(cls, settings, message):
    with raises(ValueError, message):
        cls(**settings)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (CausalSettings, {"positions": 15}, "positions is 15; it must be at least 16"),
        (PretrainedSettings, {"path": "x", "lora": 0}, "lora is 0; it must be at least 1"),
        (PretrainedSettings, {"path": "x", "dropout": -1.0}, "dropout is -1.0; it must lie in "
         "[0, 1)"),
    ],
)  # fmt: skip
def test_settings_of_one_kind_out_of_range(cls, settings, message):
    with raises(ValueError, message):
        cls(**settings)


@pytest.mark.parametrize("cls", SCRATCH)
def test_sources_and_targets_that_a_transformer_cannot_have(cls):
    kind = cls.kind
    tags = FactorCodec(("O", "B-LOC"), (("a",), ("b",), ("c",), ("d",)))
    refused = {
        f"sources have 4 tokens at each position, of which a {kind} model reads one; recurrent "
        "models read them all": tags,
        f"sources are real-valued, which a {kind} model cannot read; recurrent models "
        "can": letters_of_images(),
        f"outputs have no eos, which a {kind} model needs; recurrent models do not": TinyCodec(
            eos=False
        ),
    }
    for message, codec in refused.items():
        with raises(ValueError, message):
            cls(**SMALL).build(codec)


@pytest.mark.parametrize(
    "settings",
    [
        RecurrentSettings(cell="lstm", dropout=0.5),
        CausalSettings(**SMALL, positions=64),
        Seq2SeqSettings(**SMALL),
        PretrainedSettings(path="gpt2", lora=4),
    ],
    ids=lambda settings: settings.kind,
)
def test_settings_are_read_as_they_were_written(settings):
    record = settings.record()
    assert record["kind"] == settings.kind
    assert build_from_record(json.loads(json.dumps(record))) == settings


def test_records_without_a_kind_are_of_recurrent_models():
    assert build_from_record({"cell": "lstm"}) == RecurrentSettings(cell="lstm")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"kind": "causl"}, "unknown kind of model 'causl'; did you mean 'causal'?"),
        ({"kind": "causal", "heads": "many"}, "model: heads is 'many'; it must be a whole number"),
    ],
)
def test_records_that_cannot_be_read(record, message):
    with raises(SettingError, message):
        build_from_record(record)


def test_a_name_is_a_kind_or_where_a_model_is():
    assert [find_model_kind(name) for name in ("recurrent", "causal", "seq2seq")] == [
        RecurrentSettings, CausalSettings, Seq2SeqSettings,
    ]  # fmt: skip
    for name in ("gpt2", "t5-small", "someone/model", "./causal", "runs/model"):
        assert find_model_kind(name) is PretrainedSettings
    assert set(KINDS) == {"recurrent", "causal", "seq2seq", "pretrained"}


def test_nearly_a_kind_is_a_mistake_unless_it_is_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SettingError, match=r"^unknown kind of model 'casual'; did you mean 'causal'\?$"
    ):
        find_model_kind("casual")
    (tmp_path / "casual").mkdir()
    assert find_model_kind("casual") is PretrainedSettings


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (TinyCodec(), None),
        (TinyCodec(letters=5), "the number of source tokens of the model is 4, of the task 5"),
        (TinyCodec(eos=False), "the number of symbols of the model is 5, of the task 4"),
    ],
)
def test_codecs_that_differ(other, difference):
    assert describe_difference(TinyCodec(), other) == difference
