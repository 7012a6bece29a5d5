"""Probes that passed are remembered, and only these."""

import peft
import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from freerun.models.huggingface import adapt, probe
from freerun.models.huggingface.probe_cache import CACHE_VARIABLE, find_cache
from tests.models.models import tiny_model, words_of

DEPRECATED = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def probed(monkeypatch):
    """What was compared with the model's own forward pass, rows or trees."""
    found = []
    for name in ("_read_in_every_way", "_reads_small_tree"):
        plain = getattr(probe, name)

        def compare(policy, name=name, plain=plain):
            found.append(name)
            return plain(policy)

        monkeypatch.setattr(probe, name, compare)
    return found


def load(model, name="llama", **settings):
    return adapt(model, words_of(name), limit=5, **settings)


def change(**values):
    def apply(model):
        for name, value in values.items():
            setattr(model.config, name, value)

    return apply


def fill(value):
    return lambda model: nn.init.constant_(model.get_input_embeddings().weight, value)


def use_checkpoints(model):
    enable = getattr(model.train(), "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)()  # of older versions


def patch_attention(model):
    """As kernels of other packages do; this function is in this file."""
    plain = model.model.layers[0].self_attn.forward
    model.model.layers[0].self_attn.forward = lambda *args, **kwargs: plain(*args, **kwargs)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bart"])
def test_a_probe_that_passed_is_not_repeated_for_other_weights(name, probed):
    first = load(tiny_model(name), name)
    state = torch.get_rng_state()
    other = tiny_model(name)
    for weight in other.parameters():
        weight.data *= 1.5
    other.config._name_or_path = "elsewhere"
    torch.set_rng_state(state)
    second = load(other, name)
    assert probed == ["_read_in_every_way"]
    assert first.reads_trees == second.reads_trees
    assert torch.equal(state, torch.get_rng_state())  # so it does not matter whether it is probed


def test_trees_are_remembered_apart(probed):
    for _ in range(2):
        assert load(tiny_model("llama")).reads_trees
    assert probed == ["_read_in_every_way", "_reads_small_tree"]


@pytest.mark.parametrize(
    "differ",
    [
        change(rope_theta=17.0),
        change(_attn_implementation="sdpa"),
        lambda model: model.float(),
        fill(0.5),
        use_checkpoints,
        lambda model: torch.set_float32_matmul_precision("high"),
    ],
)
def test_what_a_probe_depends_on_is_probed_again(differ, probed):
    load(tiny_model("llama"))
    model = tiny_model("llama")
    try:
        differ(model)
        load(model)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert len(probed) == 2


@DEPRECATED
def test_adapters_are_probed_apart_and_equal_ones_once(probed):
    load(tiny_model("llama"))
    for rank in (2, 2, 3):
        config = peft.LoraConfig(r=rank, target_modules=["q_proj", "v_proj"])
        load(peft.get_peft_model(tiny_model("llama"), config))
    assert len(probed) == 3


def test_other_special_tokens_are_probed_again(probed):
    load(tiny_model("llama"))
    load(tiny_model("llama"), shared=False)
    assert len(probed) == 2


@pytest.mark.parametrize(
    "differ",
    [
        patch_attention,
        lambda model: model.model.layers[0].register_forward_hook(lambda *_: None),
        change(num_local_experts=4),
        change(_attn_implementation="own"),
        lambda model: setattr(model.lm_head, "extra", nn.Parameter(torch.ones(2) * 1j)),
    ],
)
def test_what_is_not_known_is_probed_every_time(differ, probed, folder):
    AttentionInterface.register("own", sdpa_attention_forward)
    AttentionMaskInterface.register("own", sdpa_mask)
    for _ in range(2):
        model = tiny_model("llama")
        differ(model)
        load(model)
    assert len(probed) == 2
    assert not folder.exists()


def test_a_model_that_fails_is_refused_every_time(folder, monkeypatch):
    load(tiny_model("llama"))
    stored = sorted(folder.rglob("*"))
    model = tiny_model("llama")
    fill(torch.nan)(model)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"LlamaForCausalLM cannot be used: its scores of a"):
            load(model)
    monkeypatch.setattr(probe, "are_close", lambda *_: False)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"cannot be used: its scores of a row alone differ"):
            load(tiny_model("gpt2"), "gpt2")
        load(tiny_model("llama"))  # which was known before
    assert sorted(folder.rglob("*")) == stored


CODE = """
from transformers import LlamaForCausalLM

class Own(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.logits = {} * found.logits
        return found
"""


def test_code_that_was_changed_is_probed_again(here, monkeypatch, probed):
    """The model then doubles its scores, which is found in what is not a plain head."""
    monkeypatch.syspath_prepend(here)
    (here / "own_llama.py").write_text(CODE.format("1.0"))
    import own_llama

    config = tiny_model("llama").config
    for _ in range(2):
        load(own_llama.Own(config).eval())
    assert len(probed) == 1
    (here / "own_llama.py").write_text(CODE.format("2.00"))
    load(own_llama.Own(config).eval())
    assert len(probed) == 2


def test_a_replaced_function_of_transformers_is_probed_again(monkeypatch, probed):
    from transformers.models.llama import modeling_llama

    load(tiny_model("llama"))
    plain = modeling_llama.apply_rotary_pos_emb
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda *a, **k: plain(*a, **k))
    load(tiny_model("llama"))
    assert len(probed) == 2


@pytest.mark.parametrize("contents", [b"", b"true\n", b"\x80\x04K\x01.", b"0" * 65])
def test_files_with_other_contents_are_ignored_and_replaced(contents, folder, probed):
    load(tiny_model("llama"))
    [path] = (folder / "probes").iterdir()
    right = path.read_bytes()
    assert right == f"{path.name}\n".encode()
    path.write_bytes(contents)
    load(tiny_model("llama"))
    assert len(probed) == 2
    assert path.read_bytes() == right


@pytest.mark.parametrize("obstacle", ["probes", ""])
def test_a_folder_that_cannot_be_written_does_no_harm(obstacle, folder, probed):
    """One of these names is a file."""
    path = folder / obstacle
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    for _ in range(2):
        load(tiny_model("llama"))
    assert len(probed) == 2


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({CACHE_VARIABLE: "some/where", "XDG_CACHE_HOME": "xdg"}, "some/where"),
        ({CACHE_VARIABLE: "", "XDG_CACHE_HOME": "xdg"}, "xdg/freerun"),
        ({CACHE_VARIABLE: "", "XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/freerun"),
        ({CACHE_VARIABLE: "off"}, "None"),
    ],
)
def test_where_probes_are_remembered(variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(find_cache()) == expected


def test_nothing_is_remembered_if_this_is_off(monkeypatch, folder, probed):
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    for _ in range(2):
        load(tiny_model("llama"))
    assert len(probed) == 2
    assert not folder.exists()
