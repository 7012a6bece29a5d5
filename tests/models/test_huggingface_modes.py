"""Windows of attention, dropout and layer drop, seen by what models do and not by their names."""

import logging

import pytest
import torch
import transformers
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from freerun.models.huggingface import adapt
from freerun.models.huggingface.dropout import WithoutDropout, training_mode
from freerun.models.huggingface.probe import check_dropout
from freerun.models.loading import load_model
from tests.helpers import close
from tests.models.models import (
    DECODER,
    ENCODER_DECODER,
    text_batch,
    tiny_adapted,
    tiny_model,
    words_of,
)

SMALL = {**DECODER, "max_position_embeddings": 256}
GPT_NEO = {
    "hidden_size": 16,
    "num_heads": 4,
    "num_layers": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 256,
    "window_size": 60,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}


def build(name, settings, *, suffix="ForCausalLM", rows=16, **more):
    """A tiny model of an architecture."""
    config = getattr(transformers, f"{name}Config")(vocab_size=rows, **(settings | more))
    torch.manual_seed(0)
    name = name.removesuffix("Text") if name == "Llama4Text" or name == "Gemma3Text" else name
    model = getattr(transformers, name + suffix)._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    return model.eval()


WINDOWS = [
    ("GPTNeo", GPT_NEO | {"attention_types": [[["global", "local"], 1]]}, False),
    ("GPTNeo", GPT_NEO | {"attention_types": [[["global"], 2]]}, False),
    ("Mistral", SMALL | {"sliding_window": 60}, False),
    ("Mistral", SMALL | {"sliding_window": None}, True),
    ("Qwen2", SMALL | {"sliding_window": 60, "use_sliding_window": False}, True),
    (
        "Qwen2",
        SMALL | {"sliding_window": 60, "use_sliding_window": True, "max_window_layers": 1},
        False,
    ),
    (
        "Gemma3Text",
        SMALL | {"sliding_window": 60, "layer_types": ["full_attention", "sliding_attention"]},
        False,
    ),
    (
        "Llama4Text",
        SMALL
        | {"attention_chunk_size": 60, "intermediate_size_mlp": 24, "moe_layers": []}
        | {"layer_types": ["chunked_attention", "full_attention"]},
        False,
    ),
    ("Bloom", {"hidden_size": 16, "n_layer": 2, "n_head": 4}, False),
]


@pytest.mark.parametrize(("name", "settings", "trees"), WINDOWS)
def test_windows_longer_than_what_is_probed_are_seen(name, settings, trees):
    """By what is read from many slots back, whatever the setting is called.

    GPT-Neo has none with global attention alone, but no more slots than positions.
    """
    policy = adapt(build(name, settings), words_of("llama"), limit=5)
    assert policy.reads_trees == policy.can_withdraw == trees


# Dropout

FAMILIES = [
    ("GPTNeo", GPT_NEO | {"attention_types": [[["global", "local"], 1]]}, "ForCausalLM"),
    ("SeedOss", DECODER, "ForCausalLM"),
    ("GPT2", {"n_embd": 16, "n_layer": 2, "n_head": 4}, "LMHeadModel"),
    ("GPTBigCode", {"n_embd": 16, "n_layer": 2, "n_head": 4}, "ForCausalLM"),
    ("GPTNeoX", {**DECODER, "num_key_value_heads": None}, "ForCausalLM"),
    ("Mpt", {"d_model": 16, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}, "ForCausalLM"),
    ("Bart", ENCODER_DECODER, "ForConditionalGeneration"),
    (
        "T5",
        {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
        | {"decoder_start_token_id": 0},
        "ForConditionalGeneration",
    ),
]


def find_dropouts(policy):
    """The probabilities with which a policy drops in training mode."""
    batch = text_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)
    with training_mode(policy), WithoutDropout() as mode, torch.no_grad():
        policy.force(batch.source, inputs).logits(batch.mask)
    return set(mode.seen)


@pytest.mark.parametrize(("name", "settings", "suffix"), FAMILIES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_set_everywhere(tmp_path, name, settings, suffix, dropout):
    build(name, settings, suffix=suffix).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), dropout=dropout)
    policy = adapt(model, words_of("llama"), limit=5)
    check_dropout(policy, dropout)
    # Attention is given 0 where a model has no dropout of it.
    assert find_dropouts(policy) - {0.0} == {dropout} - {0.0}
    kept = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert set(kept) <= {dropout}


def test_a_dropout_that_cannot_be_set_is_named():
    class Fixed(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            found = super().forward(*args, **kwargs)
            found.logits = F.dropout(found.logits, 0.25, self.training)
            return found

    model = Fixed(transformers.LlamaConfig(vocab_size=16, **DECODER)).eval()
    policy = adapt(model, words_of("llama"), limit=5)
    message = r"^dropout cannot be 0.1 everywhere in Fixed: there is one of 0.25$"
    with pytest.raises(ValueError, match=message):
        check_dropout(policy, 0.1)


# Layer drop


@pytest.mark.parametrize("name", ["bart", "opt", "mbart", "marian", "pegasus"])
def test_layers_are_never_dropped(name, caplog):
    """Or rows could not be continued; without dropout, training mode changes nothing."""
    drop = {"encoder_layerdrop": 0.9, "decoder_layerdrop": 0.9}
    with caplog.at_level(logging.WARNING, logger="freerun"):
        policy = tiny_adapted(name, **({"layerdrop": 0.9} if name == "opt" else drop))
    assert "drops whole layers in training (layerdrop); this is switched off" in caplog.text
    batch = text_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)
    expected = policy.force(batch.source, inputs).logits(batch.mask)
    policy.train()
    close(policy.force(batch.source, inputs).logits(batch.mask), expected, 2e-5)
    state = policy.start(batch.source)
    for tokens in inputs.T:
        _, state = policy.step(state, tokens)


def test_what_is_dropped_in_another_way_is_refused():
    """A layer that is left out in training mode at times, under a name of its own."""
    model = tiny_model("llama")
    layer = model.model.layers[1]
    forward = layer.forward

    def skip(hidden_states, *args, **kwargs):
        if layer.training and torch.rand([]) < 0.1:
            return hidden_states
        return forward(hidden_states, *args, **kwargs)

    layer.forward = skip
    message = r"^LlamaForCausalLM cannot be used: its scores of rows in training mode, without dro"
    with pytest.raises(ValueError, match=message):
        adapt(model, words_of("llama"), limit=5)


def test_the_jitter_of_a_router_is_no_reason_to_refuse(tmp_path):
    settings = DECODER | {"num_local_experts": 4, "router_jitter_noise": 0.2}
    adapt(build("Mixtral", settings), words_of("llama"), limit=5)
