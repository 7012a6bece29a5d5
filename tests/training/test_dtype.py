"""Weights are trained in float32, whatever route a model comes by, unless a dtype is named."""

import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
)

from freerun.errors import CheckpointError
from freerun.methods import MLE
from freerun.models.loading import convert_weights
from freerun.models.settings import CausalSettings, PretrainedSettings
from freerun.training import TrainingSettings, fit, load_policy
from tests.training.huggingface import DATA, TASK
from tests.training.test_resolve import trainer
from tests.training.tiny_models import text_model, tiny_tokenizer

LORA = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
HALF = [torch.bfloat16, torch.float16]


def saved(folder, dtype):
    """The directory of a model whose weights are stored in a dtype."""
    text_model().to(dtype).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def dtypes(module):
    return {weight.dtype for weight in module.parameters()}


@pytest.mark.parametrize("dtype", HALF)
def test_a_name_and_an_object_train_alike(tmp_path, dtype, caplog):
    """To the bit; weights are saved in float32; the object is said to be converted, once."""
    folder = saved(tmp_path / "base", dtype)
    weights = []
    for number, model in enumerate([str(folder), AutoModelForCausalLM.from_pretrained(folder)]):
        caplog.clear()
        run = trainer(tmp_path / str(number), model)
        assert dtypes(run.objective.model) == {torch.float32}
        name = str(dtype).removeprefix("torch.")
        note = f"the weights of the model were converted from {name} to float32, in which"
        assert caplog.text.count(note) == number
        run.train()
        run.save_model()
        weights.append(run.objective.model.state_dict())
        again, _ = load_policy(tmp_path / str(number))
        assert dtypes(again) == {torch.float32}
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())


@pytest.mark.parametrize("route", ["name", "object"])
def test_another_dtype_is_asked_for(tmp_path, route):
    folder = saved(tmp_path / "base", torch.float32)
    model = str(folder) if route == "name" else AutoModelForCausalLM.from_pretrained(folder)
    run = trainer(tmp_path / "run", model, dtype=torch.bfloat16)
    assert dtypes(run.objective.model) == {torch.bfloat16}
    run.train()
    run.save_model()
    assert dtypes(load_policy(tmp_path / "run")[0]) == {torch.bfloat16}


def test_a_setting_of_pretrained_models(tmp_path):
    codec = trainer(tmp_path / "run").processing_class
    folder = saved(tmp_path / "base", torch.bfloat16)
    assert dtypes(PretrainedSettings(path=str(folder)).build(codec)) == {torch.float32}
    half = PretrainedSettings(path=str(folder), dtype="bfloat16").build(codec)
    assert dtypes(half) == {torch.bfloat16}


def test_a_model_of_several_dtypes(tmp_path):
    model = text_model()
    model.lm_head.to(torch.bfloat16)
    next(iter(model.model.layers)).to(torch.float16)
    run = trainer(tmp_path, model)
    assert dtypes(run.objective.model) == {torch.float32}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft reads it
def test_adapters_of_a_model_in_half_precision(tmp_path):
    """By name and peft_config, object and peft_config, and as a PeftModel: all in float32."""
    folder = saved(tmp_path / "base", torch.bfloat16)
    config = LoraConfig(**LORA)
    given = [
        (str(folder), {"peft_config": config}),
        (AutoModelForCausalLM.from_pretrained(folder), {"peft_config": config}),
        (get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config), {}),
    ]
    for model, settings in given:
        run = trainer(tmp_path / "run", model, **settings)
        assert dtypes(run.objective.model) == {torch.float32}


def test_float64_and_quantized_weights_stay_as_they_are():
    assert convert_weights(text_model().double()) == set()
    quantized = text_model().to(torch.bfloat16)
    quantized.is_quantized = True
    assert convert_weights(quantized) == set()
    assert dtypes(quantized) == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["causal", "recurrent"])
def test_the_default_dtype_of_torch_makes_no_half_precision_model(tmp_path, kind):
    before = torch.get_default_dtype()
    settings = CausalSettings(hidden_size=8, layers=1, heads=2) if kind == "causal" else None
    try:
        torch.set_default_dtype(torch.bfloat16)
        training = TrainingSettings(updates=1)
        found = fit(TASK, DATA, MLE(), training=training, output=tmp_path / "run", model=settings)
    finally:
        torch.set_default_dtype(before)
    assert dtypes(found.policy) == {torch.float32}


def constant_model(kind):
    """A model with constants that are computed, and not saved with it."""
    special = {"pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 1}
    if kind == "gemma3":
        sizes = {"hidden_size": 24, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 4}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
        return Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=9, **sizes, **heads, **special))
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "decoder_start_token_id": 0}
    sizes = {"d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, **heads, **layers}
    config, model = {
        "marian": (MarianConfig, MarianMTModel),
        "m2m_100": (M2M100Config, M2M100ForConditionalGeneration),
    }[kind]
    return model(config(vocab_size=9, max_position_embeddings=12, **sizes, **special))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", ["gemma3", "marian", "m2m_100"])
def test_constants_that_are_not_saved_do_not_keep_a_rounding(tmp_path, kind, dtype):
    """Sinusoidal positions and scales: an object is what its folder is, and its weights stay."""
    model = constant_model(kind)
    exact = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    exact = {name: value.detach().clone() for name, value in exact.items()}
    saved = model.to(dtype).state_dict()
    state = torch.get_rng_state()
    assert convert_weights(model) == {dtype}
    assert torch.equal(torch.get_rng_state(), state)
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    names = {"gemma3": "embed_scale", "marian": "embed_positions.weight", "m2m_100": "weights"}
    constants = [name for name in found if name.endswith(names[kind])]
    assert len(constants) == (1 if kind == "gemma3" else 2)
    for name in constants:
        assert torch.equal(found[name], exact[name])
    for name in set(found) - set(constants):
        assert name not in saved or torch.equal(found[name], saved[name].float())


CHANGES = [
    ({"attention_dropout": 0.3}, {}, "model.config.attention_dropout is 0.0 there, and 0.3 here"),
    ({"rms_norm_eps": 0.1}, {}, "model.config.rms_norm_eps is 1e-06 there, and 0.1 here"),
    ({}, {"dtype": torch.bfloat16}, "model.dtype is float32 there, and bfloat16 here"),
    ({}, {"lora_alpha": 9}, "model.adapters.default.lora_alpha is 8 there, and 9 here"),
    ({}, {"lora_dropout": 0.2}, "model.adapters.default.lora_dropout is 0.0 there, and 0.2 here"),
]


@pytest.mark.parametrize(("changes", "members", "difference"), CHANGES)
def test_a_run_is_resumed_with_its_own_model(tmp_path, changes, members, difference):
    """Also in what weights do not show; where the model came from does not matter."""
    folder = saved(tmp_path / "base", torch.float32)
    settings = {name: value for name, value in members.items() if name.startswith("lora")}
    members = {name: value for name, value in members.items() if name not in settings}

    def make(model, **given):
        if "model.adapters" in difference:
            given["peft_config"] = LoraConfig(**LORA, **{"lora_alpha": 8, **given["peft_config"]})
        else:
            given.pop("peft_config")
        arguments = {"save_strategy": "steps", "save_steps": 1, "seed": 3}
        return trainer(tmp_path / "run", model, arguments=arguments, **given)

    make(str(folder), peft_config={}).train()
    model = AutoModelForCausalLM.from_pretrained(folder, **changes)
    with pytest.raises(CheckpointError, match=re.escape(f"it is of another run: {difference}")):
        make(model, peft_config=settings, **members).train(resume_from_checkpoint=True)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    make(model, peft_config={}).train(resume_from_checkpoint=True)
