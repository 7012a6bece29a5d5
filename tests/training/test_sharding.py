"""What of sharding is refused; that it changes nothing is among the tests of processes."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from transformers import TrainingArguments

from freerun.training.sharding import prepare_sharding
from tests.helpers import raises


def accelerator(precision="no", plugin=None):
    """As several processes on the CPU make it."""
    state = SimpleNamespace(distributed_type=DistributedType.MULTI_CPU, fsdp_plugin=plugin)
    return Mock(spec=Accelerator, state=state, mixed_precision=precision)


def asked(**settings):
    """The arguments of transformers that ask for sharding."""
    plugin = {"fsdp_version": 2, "cpu_ram_efficient_loading": False, **settings}
    return Mock(spec=TrainingArguments, fsdp_plugin_args=plugin, fsdp_config=settings)


NOT = Mock(spec=TrainingArguments, fsdp_plugin_args=None, fsdp_config=None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fsdp_version": 1}, "FSDP with fsdp_version=1 is not supported: set fsdp_version: 2"),
        ({"auto_wrap_policy": "TRANSFORMER_BASED_WRAP"},
         "FSDP with an auto_wrap_policy is not supported: a method makes each process run as "
         "many passes as its batch needs, so a model is sharded as one unit; set "
         "fsdp_auto_wrap_policy: NO_WRAP"),
        ({"activation_checkpointing": True},
         "FSDP with activation_checkpointing is not supported: use the "
         "activation_checkpointing of TrainingArguments"),
        ({"cpu_ram_efficient_loading": True},
         "FSDP with cpu_ram_efficient_loading is not supported: every process loads the model; "
         "set fsdp_cpu_ram_efficient_loading: false"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_supported_is_refused(settings, message, monkeypatch):
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    with raises(ValueError, message):
        prepare_sharding(accelerator(), asked(**settings))


def test_half_precision_is_refused(monkeypatch):
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    with pytest.raises(ValueError, match=r"^FSDP with fp16 is not supported: use bf16$"):
        prepare_sharding(accelerator("fp16"), asked())


def test_losses_keep_their_precision(monkeypatch):
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    found = accelerator("bf16")
    prepare_sharding(found, asked())
    assert found.state.distributed_type == DistributedType.FSDP
    policy = found.state.fsdp_plugin.mixed_precision_policy
    assert policy.param_dtype == torch.bfloat16
    assert policy.reduce_dtype == torch.float32
    assert policy.output_dtype is None


def test_nothing_is_sharded_unasked(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    found = accelerator()
    prepare_sharding(found, NOT)
    assert found.state.fsdp_plugin is None
    assert found.state.distributed_type == DistributedType.MULTI_CPU


def test_a_launcher_may_ask(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    found = accelerator()
    prepare_sharding(found, NOT)
    assert isinstance(found.state.fsdp_plugin, FullyShardedDataParallelPlugin)
