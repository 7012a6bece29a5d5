"""Parameters that are sharded over processes by FSDP2, through accelerate.

An `Objective` is sharded as one unit: its weights are gathered at the start of its forward pass and
released at the end of the backward pass; between updates each process holds its shard of weights,
gradients and optimizer state. So processes may make different numbers of passes of the policy in
an update, as their batches require: nothing is communicated in between.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from transformers import TrainingArguments

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def is_sharded(module: nn.Module) -> bool:
    """Return whether a module holds only a shard of its parameters."""
    return isinstance(module, FSDPModule)


def get_local_part(value: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds; it shares memory with it."""
    return value.to_local() if isinstance(value, DTensor) else value


def prepare_sharding(accelerator: Accelerator, args: TrainingArguments) -> None:
    """Set up FSDP as freerun needs it, if parameters are to be sharded.

    On the CPU accelerate does not shard by default; here it does, as on a GPU.

    Args:
        accelerator: the accelerator, before it wraps the model.
        args: the training arguments, which may enable FSDP; so may `accelerate launch`, whose
            environment variables accelerate reads itself.

    Raises:
        ValueError: if a setting of FSDP is not supported. The message names supported values.
    """
    state, wanted = accelerator.state, args.fsdp_plugin_args
    plugin = getattr(state, "fsdp_plugin", None)
    launched = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    on_cpu = state.distributed_type == DistributedType.MULTI_CPU
    if plugin is None and on_cpu and (wanted is not None or launched):
        plugin = FullyShardedDataParallelPlugin(**(wanted or {}))
        state.fsdp_plugin, state.distributed_type = plugin, DistributedType.FSDP
    if plugin is None:
        return
    if wanted is not None and "auto_wrap_policy" not in args.fsdp_config:
        plugin.auto_wrap_policy = None
    _check(plugin, accelerator.mixed_precision)
    if accelerator.mixed_precision == "bf16":
        # Losses and metrics keep the precision in which they were computed.
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )


def _check(plugin: FullyShardedDataParallelPlugin, precision: str) -> None:
    """Check that the settings of FSDP are supported."""
    faults = {
        "fsdp_version=1": (plugin.fsdp_version != 2, "set fsdp_version: 2"),
        "an auto_wrap_policy": (
            plugin.auto_wrap_policy is not None,
            "a method makes each process run as many passes as its batch needs, so a model is "
            "sharded as one unit; set fsdp_auto_wrap_policy: NO_WRAP",
        ),
        "activation_checkpointing": (
            plugin.activation_checkpointing,
            "use the activation_checkpointing of TrainingArguments",
        ),
        "cpu_ram_efficient_loading": (
            plugin.cpu_ram_efficient_loading,
            "every process loads the model; set fsdp_cpu_ram_efficient_loading: false",
        ),
    }
    for name, (wrong, right) in faults.items():
        if wrong:
            raise ValueError(f"FSDP with {name} is not supported: {right}")
    if precision == "fp16":
        raise ValueError("FSDP with fp16 is not supported: use bf16")


def gather_state(module: nn.Module) -> dict[str, Tensor]:
    """Gather all weights of a sharded module on the first process; all processes must call this.

    Tied weights are returned once.
    """
    found: dict[str, Any] = get_model_state_dict(module, options=_WHOLE)
    once = {name for name, _ in module.named_parameters()}
    every = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {name: value for name, value in found.items() if name not in every - once}


def set_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Load all or some weights into a module, sharded or not; tied weights are needed only once."""
    if not is_sharded(module):
        module.load_state_dict(state, strict=False)
        return
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(module, state, options=options)


def optimizer_state(module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Gather the state of the optimizer of a sharded module on the first process."""
    found: dict[str, Any] = get_optimizer_state_dict(module, optimizer, options=_WHOLE)
    return found


def set_optimizer_state(module: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimizer, or the result of `optimizer_state` if it is sharded."""
    if not is_sharded(module):
        optimizer.load_state_dict(state)
    else:
        whole = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(module, optimizer, state, options=whole)
