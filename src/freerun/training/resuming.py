"""Check that a checkpoint belongs to the run that is resumed from it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, TrainingArguments

from freerun.digests import check_digests
from freerun.errors import CheckpointError
from freerun.models.huggingface import HuggingFacePolicy
from freerun.policy import Policy
from freerun.settings import to_dict
from freerun.tasks import get_task_name
from freerun.training.checkpoints import has_adapters
from freerun.training.record import (
    RECORD_FILE,
    Record,
    compare_records,
    describe_method,
    digest_codec,
    digest_examples,
)
from freerun.training.resolve import Run
from freerun.training.settings import OptimizerChoice
from freerun.training.training_state import read_state

_LOGGER = logging.getLogger(__name__)
_SETTINGS = (
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "optim",
    "optim_args",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "weight_decay",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "bf16",
    "fp16",
    "data_seed",
    "metric_for_best_model",
    "greater_is_better",
)
"""The settings of transformers that must be the same to resume a run. It may become longer."""
_UNRELATED = (
    "_name_or_path",
    "architectures",
    "base_model_name_or_path",
    "transformers_version",
    "peft_version",
    "_attn_implementation",
    "attn_implementation",
    "inference_mode",
    "use_cache",
    "dtype",
)
"""Fields of configurations that do not belong to the model: its origin, its writer, its kernels."""


def build_record(
    run: Run,
    args: TrainingArguments,
    horizon: int,
    optimizer: OptimizerChoice | None,
) -> Record:
    """Build the record of a run whose settings are those of transformers.

    Args:
        run: the run.
        args: its settings.
        horizon: the number of updates that schedules are fitted to.
        optimizer: an optimizer and its settings, instead of that of `args`.
    """
    values = args.to_dict()
    training = {name: values.get(name) for name in _SETTINGS}
    if optimizer is not None:
        training["optim"] = {"class": optimizer[0].__name__, **optimizer[1]}
    examples = {"train": run.train} if run.dev is None else {"train": run.train, "dev": run.dev}
    settings = to_dict(run.task)
    return Record(
        task={"name": get_task_name(type(run.task)), "settings": settings, "files": {}},
        methods={run.method.name: describe_method(run.method)},
        model=_describe_model(run.policy),
        training=training,
        seeds=[args.seed],
        examples={name: len(part) for name, part in examples.items()},
        data={name: digest_examples(part) for name, part in examples.items()},
        codec=digest_codec(run.codec),
        horizon=horizon,
    ).as_read()


def _describe_model(policy: Policy) -> dict[str, Any]:
    """Return the settings of a model and its adapters that weights do not show, such as dropout."""
    found: dict[str, Any] = {"kind": type(policy).__name__}
    weights = next((w for w in policy.parameters() if w.is_floating_point()), None)
    if weights is not None:
        found["dtype"] = str(weights.dtype).removeprefix("torch.")
    config = getattr(policy, "config", None)
    if isinstance(config, PreTrainedConfig):
        found["architecture"] = config.model_type
        found["config"] = _leave_out(config.to_dict(), _UNRELATED)
    if isinstance(policy, HuggingFacePolicy) and has_adapters(policy):
        adapters: Any = policy.model
        found["adapters"] = {
            name: _leave_out(adapter.to_dict(), _UNRELATED)
            for name, adapter in adapters.peft_config.items()
        }
    return found


def _leave_out(value: object, names: Collection[str]) -> Any:
    """Return a value as JSON has it, without fields of these names at any depth."""
    if isinstance(value, Mapping):
        kept = {str(key): part for key, part in value.items() if key not in names}
        return {key: _leave_out(part, names) for key, part in kept.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_leave_out(part, names) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def check_resumable(folder: Path, record: Record, args: TrainingArguments) -> None:
    """Check that a checkpoint is intact, and of the same run.

    Args:
        folder: the checkpoint.
        record: the record of the run that is to be resumed.
        args: its settings.

    Raises:
        CheckpointError: if it is damaged, or of a run with other settings, data or processes. The
            message says what differs.
    """
    state = read_state(folder)
    check_digests(folder, whole=True)
    there = Record.read(folder / RECORD_FILE)
    processes = max(1, len(list(folder.glob("rng_state_*.pth"))))
    if processes != args.world_size:
        raise CheckpointError(
            f"{folder}: it was written by {_count(processes)}, and is resumed by "
            f"{_count(args.world_size)}; resume with {processes}"
        )
    differences = list(compare_records(there, record))
    if differences:
        raise CheckpointError(
            f"{folder}: it is of another run: {'; '.join(differences[:3])}; resume with the same "
            "settings and data, or start over"
        )
    if there.horizon != record.horizon:
        _LOGGER.warning(
            "%s: schedules were fitted to %s updates there, and from now on to %s",
            *(folder, there.horizon, record.horizon),
        )
    best = state.best_global_step
    if args.load_best_model_at_end and best is not None and best != state.global_step:
        kept = Path(args.output_dir, f"checkpoint-{best}")
        if not kept.is_dir():
            raise CheckpointError(
                f"{kept}: it is missing, but the best model so far is in it; start over in "
                "another output directory"
            )
        check_digests(kept)


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes together"
