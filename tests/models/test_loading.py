"""What is read of a folder or asked of a hub, and what is refused."""

import json
import os
import socket
import time

import pytest
import torch
from huggingface_hub import constants
from transformers import LlamaConfig, MarianConfig, MarianMTModel

from freerun.batch import Source
from freerun.data import TextCodec
from freerun.decoding import greedy
from freerun.errors import CheckpointError
from freerun.hub import can_reach_hub
from freerun.models.huggingface import adapt
from freerun.models.loading import (
    find_base_path,
    load_config,
    load_model,
    load_pretrained_tokenizer,
)
from tests.helpers import close
from tests.models.models import ENCODER_DECODER, plain_scores, text_batch, tiny_model, words_of
from tests.pages import ROOT

ANNALOG = ROOT.parent / "shared" / "data" / "annalog-marian"


@pytest.fixture
def folder(tmp_path):
    """The folder of a tiny model."""
    tiny_model("llama", dtype=torch.float32).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(file, **fields):
    """Change fields of a JSON object in a file."""
    found = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(found | fields))


# What is read of a folder


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("name", ["someone/kernel", "someone/a:b", "flash_attention_2"])
def test_kernels_of_a_hub_are_refused(folder, key, name):
    change(folder / "config.json", **{key: name})
    if LlamaConfig.from_pretrained(folder)._attn_implementation != name:
        pytest.skip("this release of transformers does not read the field")
    message = rf"^{folder}: its configuration names the attention .*; it must be one of eager, sdpa"
    with pytest.raises(CheckpointError, match=message):
        load_model(str(folder))


def test_attention_that_is_part_of_transformers_is_read(folder):
    change(folder / "config.json", attn_implementation="sdpa")
    load_model(str(folder))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 12, "its weights have other shapes than its configuration says"),
        ("hidden_size", "x", "Validation error for field 'hidden_size': TypeError: Field "),
        ("hidden_act", "none", "KeyError('none')"),
    ],
)
def test_the_reason_of_a_library_is_one_line_that_says_it(folder, field, value, message):
    change(folder / "config.json", **{field: value})
    with pytest.raises(CheckpointError) as caught:
        load_model(str(folder))
    assert str(caught.value).startswith(f"{folder}: {message}")
    assert "\n" not in str(caught.value)


def test_quantized_weights_are_refused_by_name(folder):
    change(folder / "config.json", quantization_config={"quant_method": "mxfp4"})
    with pytest.raises(CheckpointError, match=r": its weights are quantized; load it with"):
        load_config(str(folder))


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", 3, ".."]
)
def test_an_index_that_leaves_its_folder_is_refused(folder, name):
    index = folder / "model.safetensors.index.json"
    change(index, metadata={}, weight_map={"lm_head.weight": name})
    with pytest.raises(CheckpointError, match=rf"^{index}: it names .* not a file in the"):
        load_model(str(folder))


def test_an_index_without_a_map_is_refused(folder):
    index = folder / "model.safetensors.index.json"
    for text in ("[]", "{", '{"weight_map": []}', '{"a": 1}'):
        index.write_text(text)
        with pytest.raises(CheckpointError, match=rf"^{index}: "):
            load_model(str(folder))


def test_a_damaged_generation_config_is_refused(folder):
    """Transformers ignores one that it cannot read."""
    config = folder / "generation_config.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    with pytest.raises(CheckpointError, match=rf"^{config}: it begins with a byte order mark; "):
        load_model(str(folder))


def test_a_pipe_is_refused(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors: it is not a regular file$"):
        load_model(str(folder))


def test_links_are_followed(folder, tmp_path):
    """The cache of the hub consists of them."""
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    load_model(str(folder))


def test_code_of_its_own_is_never_run(folder, tmp_path):
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    change(
        folder / "config.json",
        model_type="unknown_to_transformers",
        auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    )
    with pytest.raises(CheckpointError, match=r"it needs custom code, which is never"):
        load_model(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("base", [None, 3, "", ["a"]])
def test_adapters_without_a_model_are_refused(tmp_path, base):
    change(tmp_path / "adapter_config.json", base_model_name_or_path=base)
    with pytest.raises(CheckpointError, match=r"'base_model_name_or_path' must name the model"):
        find_base_path(str(tmp_path))


def test_adapters_of_another_revision_of_a_model_are_refused(tmp_path, folder):
    config = tmp_path / "adapter_config.json"
    change(config, base_model_name_or_path="some/model", revision="step3000")
    with pytest.raises(CheckpointError, match=r"belong to the revision 'step3000' of some/model"):
        find_base_path(str(tmp_path))
    change(config, revision=None)
    assert find_base_path(str(tmp_path)) == ("some/model", True)
    change(config, base_model_name_or_path=str(folder), revision="step3000")  # of this folder
    assert find_base_path(str(tmp_path)) == (str(folder), True)


def test_adapters_of_adapters_are_refused(tmp_path):
    """Also those of themselves."""
    change(tmp_path / "adapter_config.json", base_model_name_or_path=str(tmp_path))
    for read in (find_base_path, load_config, load_model, load_pretrained_tokenizer):
        with pytest.raises(CheckpointError, match=r"has only adapters, too$"):
            read(str(tmp_path))


def test_adapters_that_import_a_module_are_refused(tmp_path, folder):
    change(
        tmp_path / "adapter_config.json",
        base_model_name_or_path=str(folder),
        megatron_config={"a": 1},
        megatron_core="os",
    )
    with pytest.raises(CheckpointError, match=r"it names a module to import, which is never done$"):
        load_model(str(tmp_path))


# What is asked of a hub


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    """No host has an address; the hosts that one was looked up for."""
    asked = []

    def fail(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    can_reach_hub.cache_clear()
    yield asked
    can_reach_hub.cache_clear()


@pytest.mark.parametrize("read", [load_config, load_model, load_pretrained_tokenizer])
@pytest.mark.parametrize("offline", [False, True])
def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch, unreachable, read, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"^a/b: .*the hub does not answer"):
        read("a/b")
    assert time.perf_counter() - start < 5
    assert len(unreachable) == (0 if offline else 1)
    assert offline == constants.HF_HUB_OFFLINE


def test_a_folder_is_read_without_asking(unreachable, folder):
    load_model(str(folder))
    assert unreachable == []


# Encoder-decoders with tables of their own

SEPARATE = ENCODER_DECODER | {
    "share_encoder_decoder_embeddings": False,
    "tie_word_embeddings": False,
    "decoder_vocab_size": 13,
    "vocab_size": 16,
    "init_std": 0.5,
}


def test_separate_tables_for_source_and_target(tmp_path):
    """Of different sizes; positions that were trained are saved and read again."""
    torch.manual_seed(0)
    model = MarianMTModel(MarianConfig(**SEPARATE)).eval()
    with torch.no_grad():
        model.model.decoder.embed_positions.weight.normal_()
    policy = adapt(model, words_of("marian"), limit=5)
    batch = text_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)
    expected = policy.force(batch.source, inputs).logits(batch.mask)
    row = batch.source.select(torch.tensor([0]))
    found = policy.force(row, inputs[:1]).logits(torch.ones_like(inputs[:1], dtype=torch.bool))
    close(found, plain_scores(policy, row, inputs[:1]), 1e-4)
    policy.save_pretrained(tmp_path)
    again = adapt(load_model(str(tmp_path)), policy.vocabulary, limit=5)
    close(again.force(batch.source, inputs).logits(batch.mask), expected, 1e-6)


def test_fewer_targets_than_the_vocabulary_are_refused():
    model = MarianMTModel(MarianConfig(**(SEPARATE | {"decoder_vocab_size": 12})))
    with pytest.raises(ValueError, match=r"^the model has 12 tokens, fewer than the 13"):
        adapt(model, words_of("marian"), limit=5)


@pytest.mark.skipif(not ANNALOG.exists(), reason="the model of molecules is not there")
def test_a_real_model_with_separate_tables():
    model, tokenizer = load_model(str(ANNALOG)), load_pretrained_tokenizer(str(ANNALOG))
    start = model.config.decoder_start_token_id
    codec = TextCodec(tokenizer, bos=start, continues=False)
    policy = adapt(model, codec.target, limit=40)
    tokens = tokenizer("CCO", return_tensors="pt").input_ids
    found = greedy(policy, Source(tokens, torch.ones_like(tokens, dtype=torch.bool)))
    written = model.generate(tokens, max_new_tokens=40, do_sample=False, num_beams=1)[0, 1:]
    ours = found.tokens[0, : found.lengths[0]]
    assert ours.tolist() == written[: len(ours)].tolist()


def test_a_gguf_file_is_refused_with_what_to_use_instead(tmp_path):
    path = tmp_path / "model.Q4_1.gguf"
    path.write_bytes(b"GGUF")
    message = (
        f"{path}: a GGUF file has quantized weights, which cannot be trained; use the model that "
        "it was made from, as a folder with config.json and safetensors"
    )
    for given in (path, tmp_path):
        with pytest.raises(CheckpointError) as caught:
            load_model(str(given))
        assert str(caught.value) == message
