"""Hugging Face models in the Trainer, one process at a time."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, TrainingArguments

from freerun.errors import CheckpointError
from freerun.evaluation import decode_hypotheses, teacher_forced_loss
from freerun.methods import MLE, DifferentiableScheduledSampling
from freerun.training import Trainer, load_policy
from tests.training.children import alone
from tests.training.huggingface import DATA, exact, killed, lora, resumable, trainer
from tests.training.outcomes import close, result
from tests.training.tiny_models import KINDS, tiny_model
from tests.training.tiny_task import TinyCodec


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The directory of a model for adapters."""
    folder = tmp_path_factory.mktemp("base")
    tiny_model("gpt2", dropout=0.3).save_pretrained(folder)
    return str(folder)


def weights(folder, name="model"):
    return safetensors.torch.load_file(folder / f"{name}.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_trained_is_saved_and_found_again(tmp_path, kind):
    found = trainer(tmp_path, tiny_model(kind), eval_strategy="steps", eval_steps=6)
    found.train()
    found.save_model(str(tmp_path))
    policy, codec = load_policy(tmp_path, TinyCodec)
    assert codec == DATA.codec
    assert not policy.training
    own = found.objective.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in policy.state_dict().items())
    assert decode_hypotheses(policy, DATA.dev) == decode_hypotheses(found.objective.model, DATA.dev)
    auto = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM
    plain = auto.from_pretrained(tmp_path)
    names = {name.removeprefix("model."): value for name, value in own.items()}
    assert all(torch.equal(names[name], value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("name", ["compute_metrics", "data_collator", "optimizers"])
def test_arguments_of_the_other_trainer_say_what_replaces_them(tmp_path, name):
    with pytest.raises(TypeError, match=f"^Trainer has no argument {name}: .{{10,}}$"):
        Trainer("tiny", MLE(), TrainingArguments(str(tmp_path)), **{name: None})


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_are_read_as_they_were_kept(tmp_path, dtype):
    found = trainer(tmp_path, tiny_model("llama", dtype=dtype), dtype=dtype)
    found.save_model(str(tmp_path))
    policy, _ = load_policy(tmp_path, TinyCodec)
    assert policy.dtype == dtype
    own = found.objective.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in policy.state_dict().items())


def test_weights_in_several_files(tmp_path):
    model = tiny_model("llama")
    trainer(tmp_path, model).save_model(str(tmp_path))
    (tmp_path / "SHA256SUMS").unlink()
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    (tmp_path / "model.safetensors").unlink()
    policy, _ = load_policy(tmp_path, TinyCodec)
    own = model.state_dict()
    found = policy.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in found.items())
    part = sorted(tmp_path.glob("model-*.safetensors"))[1]
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=f"^{part}: truncated or damaged"):
        load_policy(tmp_path, TinyCodec)
    part.unlink()
    with pytest.raises(CheckpointError, match=f"^{part}: there is no such file; is {tmp_path} a"):
        load_policy(tmp_path, TinyCodec)


@pytest.mark.parametrize("harm", ["truncated", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damaged_models_are_named(tmp_path, name, harm):
    trainer(tmp_path, tiny_model("gpt2")).save_model(str(tmp_path))
    (tmp_path / "SHA256SUMS").unlink()
    path = tmp_path / name
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=f"^{path}: "):
        load_policy(tmp_path, TinyCodec)


def test_weights_of_another_model_are_refused(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 3, "max_steps": 3}
    trainer(tmp_path, tiny_model("gpt2"), **settings).train()
    path = tmp_path / "checkpoint-3"
    message = f"^{path}: it is of another run: model.architecture is gpt2 there, and llama here"
    with pytest.raises(CheckpointError, match=message):
        trainer(tmp_path, tiny_model("llama"), **settings).train(resume_from_checkpoint=str(path))
    (path / "SHA256SUMS").unlink()
    tensors = load_file(path / "model.safetensors")
    save_file(
        {f"other.{name}": value for name, value in tensors.items()}, path / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match=f"^{path}: weights are missing, such as "):
        trainer(tmp_path, tiny_model("gpt2"), **settings).train(resume_from_checkpoint=str(path))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    output = tmp_path_factory.mktemp("plain")
    assert alone(exact, str(output), "gpt2") == 0
    return output


@pytest.mark.parametrize(
    "settings",
    [
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        {"activation_checkpointing": True},
        {
            "activation_checkpointing": True,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
        },
    ],
    ids=str,
)
def test_accumulation_and_checkpointing_change_nothing(plain, tmp_path, settings):
    exact(str(tmp_path), "gpt2", **settings)
    close(result(plain), result(tmp_path))


def test_relaxed_tokens_one_by_one_need_their_cache(tmp_path):
    method = DifferentiableScheduledSampling(schedule="constant", k=0.5, passes=0)
    found = trainer(tmp_path, tiny_model("gpt2"), method, activation_checkpointing=True)
    with pytest.raises(ValueError, match=r"use a method with parallel passes \(passes=2\)"):
        found.train()
    passes = DifferentiableScheduledSampling(schedule="constant", k=0.5, passes=2)
    trainer(tmp_path, tiny_model("gpt2"), passes, activation_checkpointing=True).train()


@pytest.mark.parametrize("adapters", [False, True])
def test_a_run_that_was_killed_goes_on_to_the_bit(tmp_path, base, adapters):
    model, name = (base, "adapter_model") if adapters else (None, "model")
    assert alone(resumable, str(tmp_path / "whole"), model) == 0
    assert alone(killed, str(tmp_path / "killed"), model, 5) == 7
    kept = sorted(path.name for path in (tmp_path / "killed").glob("checkpoint-*"))
    assert kept[-1] == "checkpoint-4"
    assert alone(resumable, str(tmp_path / "killed"), model) == 0
    found = [(tmp_path / run / f"{name}.safetensors").read_bytes() for run in ("whole", "killed")]
    assert found[0] == found[1]


@pytest.mark.parametrize("adapters", [False, True])
def test_the_best_model_is_loaded(tmp_path, base, adapters):
    settings = {"peft_config": lora()} if adapters else {}
    found = trainer(
        tmp_path,
        base if adapters else tiny_model("gpt2"),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        learning_rate=0.1,
        load_best_model_at_end=True,
        metric_for_best_model="teacher_forced_loss",
        greater_is_better=True,
        **settings,
    )
    found.train()
    losses = {
        entry["step"]: entry["eval_teacher_forced_loss"]
        for entry in found.state.log_history
        if "eval_teacher_forced_loss" in entry
    }
    best = max(losses, key=losses.__getitem__)
    assert best < 6
    assert teacher_forced_loss(found.objective.model, DATA.dev) == pytest.approx(losses[best])


@pytest.mark.kernels
def test_mixed_precision_keeps_weights_in_single(tmp_path):
    found = trainer(tmp_path, tiny_model("llama"), MLE(), bf16=True, max_steps=20)
    before = teacher_forced_loss(found.objective.model, DATA.dev)
    found.train()
    assert found.objective.model.dtype == torch.float32
    assert teacher_forced_loss(found.objective.model, DATA.dev) < before


@pytest.mark.kernels
def test_an_evaluation_before_training_is_in_mixed_precision(tmp_path):
    settings = {"max_steps": 1, "learning_rate": 0.0}
    found = trainer(tmp_path, tiny_model("llama"), MLE(), bf16=True, **settings)
    before = found.evaluate()
    found.train()
    assert found.evaluate() == before
    single = trainer(tmp_path, tiny_model("llama"), MLE(), **settings).evaluate()
    assert single["eval_teacher_forced_loss"] != before["eval_teacher_forced_loss"]


def test_adapters_are_trained_and_saved_alone(tmp_path, base):
    found = trainer(tmp_path, base, peft_config=lora())
    policy = found.objective.model
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    assert isinstance(policy.model, PeftModel)
    found.train()
    held = {id(p) for group in found.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for name, p in policy.named_parameters() if "lora_" in name}
    changed = {n for n, value in policy.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {name for name in before if "lora_" in name}
    found.save_model(str(tmp_path / "saved"))
    # Of adapters, old releases of transformers also write generation_config.json.
    assert {path.name for path in (tmp_path / "saved").iterdir()} - {"generation_config.json"} == {
        "README.md",
        "SHA256SUMS",
        "adapter_config.json",
        "adapter_model.safetensors",
        "codec.json",
    }
    assert all("lora_" in name for name in weights(tmp_path / "saved", "adapter_model"))
    again, _ = load_policy(tmp_path / "saved", TinyCodec)
    assert decode_hypotheses(again, DATA.dev) == decode_hypotheses(policy, DATA.dev)
    trainable = {name for name, p in again.named_parameters() if p.requires_grad}
    assert trainable == {name for name in trainable if "lora_" in name} != set()


def test_new_adapters_are_drawn_by_the_seed(tmp_path, base):
    drawn = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        found = trainer(tmp_path, base, peft_config=lora())
        state = found.objective.model.state_dict()
        drawn.append([value for name, value in state.items() if "lora_A" in name])
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))


def test_adapters_whose_model_is_gone(tmp_path):
    tiny_model("gpt2").save_pretrained(tmp_path / "base")
    found = trainer(tmp_path / "run", str(tmp_path / "base"), peft_config=lora())
    found.save_model(str(tmp_path / "run"))
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'base'}: there is no such directory$"):
        load_policy(tmp_path / "run", TinyCodec)


@pytest.mark.parametrize("harm", ["truncated", "missing", "another"])
def test_damaged_adapters_are_named(tmp_path, base, harm):
    settings = {"save_strategy": "steps", "save_steps": 3, "max_steps": 3, "peft_config": lora()}
    trainer(tmp_path, base, **settings).train()
    path = tmp_path / "checkpoint-3" / "adapter_model.safetensors"
    (path.parent / "SHA256SUMS").unlink()
    message = {
        "truncated": f"^{path}: truncated or damaged",
        "missing": f"^{path}: there is no such file",
        "another": f"^{path}: weights of another model: base_model",
    }[harm]
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:50])
    elif harm == "missing":
        path.unlink()
    else:
        tensors = load_file(path)
        save_file({name: torch.cat([value, value]) for name, value in tensors.items()}, path)
    with pytest.raises(CheckpointError, match=message):
        trainer(tmp_path, base, **settings).train(resume_from_checkpoint=str(path.parent))
    if harm != "another":
        with pytest.raises(CheckpointError, match=message):
            load_policy(path.parent, TinyCodec)
