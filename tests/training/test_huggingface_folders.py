"""Folders that models of several kinds are saved into, and settings that stand for others."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel

from freerun.errors import CheckpointError
from freerun.models.loading import load_model
from freerun.training import load_policy
from tests.training.huggingface import lora, trainer
from tests.training.tiny_models import tiny_model
from tests.training.tiny_task import TinyCodec


@pytest.fixture
def base(tmp_path):
    tiny_model("gpt2").save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_model_takes_the_place_of_one_of_another_kind(tmp_path, base):
    """Adapters left beside whole weights would be read in their place, and the reverse."""
    whole = trainer(tmp_path / "whole", tiny_model("gpt2", seed=1))
    adapters = trainer(tmp_path / "adapters", base, peft_config=lora())
    folder = tmp_path / "saved"
    for found, names in (
        (adapters, {"adapter_config.json", "adapter_model.safetensors"}),
        (whole, {"config.json", "model.safetensors"}),
        (adapters, {"adapter_config.json", "adapter_model.safetensors"}),
    ):
        found.save_model(str(folder))
        there = {path.name for path in folder.iterdir()}
        assert names <= there
        assert not there & ({"model.safetensors", "adapter_model.safetensors"} - names)
        assert not any(name.endswith(".tmp") for name in there)
        policy, _ = load_policy(folder, TinyCodec)
        assert isinstance(policy.model, PeftModel) == (found is adapters)
        own = found.objective.model.state_dict()
        assert all(torch.equal(own[name], value) for name, value in policy.state_dict().items())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_adapters_are_read_from_safetensors_alone(tmp_path, base):
    found = trainer(tmp_path / "run", base, peft_config=lora())
    found.save_model(str(tmp_path / "saved"))
    weights = tmp_path / "saved" / "adapter_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        load_model(str(tmp_path / "saved"))


def test_what_is_done_every_epoch_is_done_every_so_many_updates(tmp_path):
    found = trainer(
        tmp_path,
        tiny_model("gpt2"),
        max_steps=-1,
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_steps=500,
    )
    found.train()
    steps = [entry["step"] for entry in found.state.log_history if "seconds" in entry]
    assert len(steps) == 3
    assert steps[-1] == found.args.max_steps
    assert (tmp_path / f"checkpoint-{steps[0]}").is_dir()
    epochs = [entry["epoch"] for entry in found.state.log_history if "seconds" in entry]
    rows = found.args.train_batch_size * found.args.gradient_accumulation_steps
    assert epochs == [step * rows / len(found.train_dataset) for step in steps]
    assert 3 <= epochs[-1] < 4


@pytest.mark.parametrize(
    "setting", ["torch_compile", "auto_find_batch_size", "dataloader_drop_last"]
)
def test_settings_without_effect_are_refused(tmp_path, setting):
    with pytest.raises(ValueError, match=f"^{setting}=True is not supported: "):
        trainer(tmp_path, tiny_model("gpt2"), **{setting: True})
