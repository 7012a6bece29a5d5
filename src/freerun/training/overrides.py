"""Every private method of transformers' Trainer that freerun overrides, and why.

Names that begin with an underscore are not part of transformers' public API. An upgrade may rename
such a method or call it differently, and the override would then silently never run. So all
overrides are in this file, each with its reason; tests/training/test_overrides.py compares them
with the installed transformers, and pyproject.toml limits its version.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers
from torch import Tensor, nn
from transformers.trainer_callback import ExportableState

from freerun.errors import CheckpointError
from freerun.files import format_json, write
from freerun.methods import Modules
from freerun.training.callbacks import Meter
from freerun.training.checkpoints import read_tensors, read_weights, save_weights
from freerun.training.folders import finish_folder, get_temporary_path, report_save_errors, rotate
from freerun.training.objective import Objective
from freerun.training.record import RECORD_FILE, Record
from freerun.training.sharding import get_local_part, prepare_sharding, set_state
from freerun.training.stream import Order, Stream
from freerun.training.training_state import (
    STATE_FILE,
    describe_read_errors,
    load_method,
    load_optimizer,
    load_random_state,
    read_state,
    restore_callback,
    save_method,
    save_optimizer,
    save_random_state,
)

MODULES_FILE = "objective.safetensors"
"""The modules that a method has besides the policy."""
_POLICY_PREFIX = "model."
"""The prefix of the names of the policy's weights in the state of an `Objective`."""


class TrainerOverrides(transformers.Trainer):
    """transformers' Trainer with atomic checkpoints, and with losses that are sums.

    Subclasses define `save_model`, `describe` and `record`.
    """

    objective: Objective
    meter: Meter
    kept_update: int | None = None
    """The update of the current weights, if it is not the last one."""
    update_loss: Tensor | None = None
    """The sum of the losses of the batches of the current update."""
    checked_update: int = 0
    """The last update whose loss is known to be finite."""

    # ---- Set-up

    def create_accelerator_and_postprocess(self) -> None:
        """Check and complete FSDP's settings between making the accelerator and wrapping the model.

        This is the only place where the accelerator exists and has wrapped nothing yet.
        """
        super().create_accelerator_and_postprocess()
        prepare_sharding(self.accelerator, self.args)
        self.is_fsdp_enabled = getattr(self.accelerator.state, "fsdp_plugin", None) is not None

    # ---- Batches

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[dict[str, Tensor]], Any]:
        """Fetch the batches of an update with the timer running, since this is part of training.

        transformers calls no callback before it fetches batches.
        """
        self.meter.fetch()
        self.update_loss = None
        return super().get_batch_samples(*args, **kwargs)

    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, Tensor]], device: torch.device
    ) -> Tensor | None:
        """Count the target tokens of an update, over all its batches and ranks.

        transformers counts `labels` that are not -100; our batches have masks instead.
        """
        if not batch_samples:
            return None
        count = torch.stack([batch["target_mask"].sum() for batch in batch_samples]).sum()
        if self.args.world_size > 1:
            count = self.accelerator.gather(count.to(device)).sum()
        return count.to(device)

    def _get_train_sampler(self, train_dataset: Stream | None = None) -> Order:
        """Return the order of examples as one stream, in which batches may cross epochs.

        transformers ends an epoch with a smaller batch, and starts a new sampler for the next.
        """
        items = self.args.max_steps * self.get_total_train_batch_size(self.args)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return Order(len(self.train_dataset), items, seed)

    # ---- An update

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Give modules of the method their own learning rates."""
        new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if new:
            set_learning_rates(optimizer, self.objective.method_modules)
        return optimizer

    def training_step(
        self,
        model: Any,
        inputs: dict[str, Tensor | Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Divide the loss of an update by the count of the method, over all batches and ranks.

        The count is known only after the last forward pass. So losses are first divided by the
        number of target tokens; if the method counted a different number, the gradient of the whole
        update and its loss are scaled by the ratio, before gradients are clipped.

        Raises:
            SettingError: if the method counted nothing.
        """
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.update_loss = loss if self.update_loss is None else self.update_loss + loss
        if not self.accelerator.sync_gradients or num_items_in_batch is None:
            return loss
        count = self.objective.take_count()
        if self.args.world_size > 1:
            count = self.accelerator.gather(count.reshape(1)).sum()
        # Only after an update whose loss was read: on a GPU, reading waits for all queued work.
        if self.state.global_step == self.checked_update:
            self.objective.check_count(count)
        ratio, whole = num_items_in_batch / count, self.update_loss
        self.update_loss = None
        # Reading a number from a GPU waits for all queued work, so gradients are scaled there even
        # if the factor is 1.
        if self.args.device.type == "cpu" and float(ratio) == 1:
            return loss
        scale_gradients(self.objective, ratio)
        return loss + (ratio - 1) * whole

    # ---- After an update

    def floating_point_ops(self, inputs: dict[str, Tensor]) -> int:
        """Count nothing: transformers' formula for a forward pass does not hold for roll-outs."""
        return 0

    def _maybe_log_save_evaluate(
        self, tr_loss: Tensor, grad_norm: Tensor | float | None, *args: Any, **kwargs: Any
    ) -> None:
        """Check that the loss is finite before anything is logged, evaluated or saved.

        No callback sees the loss of an update before this method uses it.
        """
        control = self.control
        due = control.should_log or control.should_evaluate or control.should_save
        # Reading a number from a GPU waits for all queued work, so it is done rarely.
        if due or self.args.device.type == "cpu":
            scaled = self.accelerator.scaler is not None
            norm = 0.0 if grad_norm is None or scaled else float(grad_norm)
            self.check_finite(float(tr_loss), norm)
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)

    def check_finite(self, loss: float, norm: float) -> None:
        """Check the loss and the norm of the gradient.

        Raises:
            FloatingPointError: if one of them is not finite. The message names the updates.
        """
        step, last = self.state.global_step, self.checked_update
        self.checked_update = step
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = (
            f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        )
        when = f"at update {step}" if step - last <= 1 else f"in updates {last + 1} to {step}"
        raise FloatingPointError(
            f"{what} {when}; lower the learning rate, clip gradients, or look at the data"
        )

    # ---- Writing a checkpoint

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint under a temporary name, flush it to disk, and rename it.

        transformers writes to the final folder, so a killed run would leave a partial checkpoint.
        """
        output = Path(self.args.output_dir)
        folder = output / f"checkpoint-{self.state.global_step}"
        best = output / f"checkpoint-{self.state.best_global_step}"
        if best == folder or best.is_dir():
            self.state.best_model_checkpoint = str(best)
        written = get_temporary_path(folder)
        with report_save_errors(folder, folder.name):
            written.mkdir(parents=True, exist_ok=True)
            self.save_model(str(written), _internal_call=True)
            if not self.args.save_only_model:
                self._save_optimizer_and_scheduler(str(written))
                self._save_scaler(str(written))
                self._save_rng_state(str(written))
                save_method(self.objective.method, written, self.rank_suffix)
            if self.args.should_save:
                self.export_callbacks()
                # transformers would sort the names of metrics, so that a resumed run differs.
                write(written / STATE_FILE, format_json(dataclasses.asdict(self.state)))
                self.record.write(written / RECORD_FILE)
        # Outside of `report_save_errors`: losing another process is not an error of the disk.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            with report_save_errors(folder, folder.name):
                finish_folder(written, folder)
            rotate(output, self.args.save_total_limit, best)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the policy, its codec, and the modules of the method.

        transformers would write the `Objective`, which no other library can load.

        Args:
            output_dir: the folder; by default that of the run.
            state_dict: the state of the objective, if this process has only a shard of it.
        """
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        save_weights(self.objective.model, folder, _policy_state(state_dict))
        self.processing_class.save_pretrained(str(folder))
        modules = _module_state(self.objective.state_dict() if state_dict is None else state_dict)
        if modules:
            safetensors.torch.save_file(modules, folder / MODULES_FILE)
        self.describe(folder)

    def describe(self, folder: Path) -> None:
        """Write a description of the model into its folder."""
        raise NotImplementedError

    @property
    def record(self) -> Record:
        """The record of the run."""
        raise NotImplementedError

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write the states of optimizer and scheduler.

        transformers writes those of FSDP in shards, which only the same number of processes can
        read.
        """
        optimizer, scheduler = self.optimizer.optimizer, self.lr_scheduler
        save_optimizer(
            Path(output_dir), self.objective, optimizer, scheduler, self.args.should_save
        )

    def _save_rng_state(self, output_dir: str) -> None:
        """Write the random state without pickled arrays, so that it can be read safely."""
        save_random_state(Path(output_dir), self.rank_suffix, self.args.device)

    def export_callbacks(self) -> None:
        """Collect the states of callbacks, which transformers does inside `_save_checkpoint`."""
        everyone = [*self.callback_handler.callbacks, self.control]
        self.state.stateful_callbacks = {
            type(one).__name__: one.state() for one in everyone if isinstance(one, ExportableState)
        }

    # ---- Resuming from a checkpoint

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the files of `_save`, and the state of the method."""
        folder = Path(resume_from_checkpoint)
        self.load_policy_weights(folder)
        own = _module_state(self.objective.state_dict())
        if own:
            found = read_tensors(folder / MODULES_FILE)
            if found.keys() != own.keys():
                name = min(found.keys() ^ own.keys())
                raise CheckpointError(f"{folder / MODULES_FILE}: of another method: {name} differs")
            set_state(self.objective, found)
        load_method(self.objective.method, folder, self.rank_suffix)

    def _load_best_model(self) -> None:
        """Load the best policy: transformers would look for files of the `Objective`."""
        self.load_policy_weights(
            Path(self.args.output_dir, f"checkpoint-{self.state.best_global_step}")
        )
        self.kept_update = self.state.best_global_step

    def load_policy_weights(self, folder: Path) -> None:
        """Load the weights of the policy from a checkpoint."""
        weights = read_weights(self.objective.model, folder)
        set_state(
            self.objective, {f"{_POLICY_PREFIX}{name}": value for name, value in weights.items()}
        )

    def _init_training_state(self, max_steps: int, updates: int, epochs: int, *rest: Any) -> Any:
        """Find the best checkpoint if the run was moved, and do not continue after an early stop.

        transformers stores the best checkpoint by its old path, and would do one more update if a
        run that had stopped is resumed. A run that had reached its last update may be made longer.
        """
        trained, skipped = super()._init_training_state(max_steps, updates, epochs, *rest)
        self.checked_update = self.state.global_step
        best = Path(self.args.output_dir, f"checkpoint-{self.state.best_global_step}")
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)
        checkpoint = rest[0]
        if checkpoint is None:
            return trained, skipped
        saved = read_state(Path(checkpoint))
        control = saved.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        stopped = control.get("should_training_stop", False)
        early = stopped and saved.global_step < saved.max_steps
        return (epochs, 0) if early else (trained, skipped)

    def _load_callback_state(self) -> None:
        """Restore callbacks in place: transformers would create new ones, which are not used."""
        for callback in self.callback_handler.callbacks:
            kept = self.state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and kept is not None:
                restore_callback(callback, kept, Path(self.args.output_dir, STATE_FILE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Read the files of `_save_optimizer_and_scheduler`; errors name damaged files."""
        if checkpoint is not None:
            optimizer, scheduler = self.optimizer.optimizer, self.lr_scheduler
            load_optimizer(Path(checkpoint), self.objective, optimizer, scheduler)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Read the scaler of fp16; an error names a damaged file."""
        if checkpoint is not None:
            with describe_read_errors(Path(checkpoint)):
                super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Read the file of `_save_rng_state`."""
        if checkpoint is not None:
            load_random_state(Path(checkpoint), self.rank_suffix, self.args.device)

    @property
    def rank_suffix(self) -> str:
        """The suffix of the names of files that each process writes for itself."""
        return "" if self.args.world_size == 1 else f"_{self.args.process_index}"


def set_learning_rates(optimizer: torch.optim.Optimizer, modules: Modules) -> None:
    """Move the parameters of modules with their own learning rate to groups of the optimizer.

    Schedules scale the learning rate of every group by the same factor.
    """
    for name, rate in modules.learning_rates.items():
        own = {id(parameter) for parameter in modules[name].parameters()}
        for group in list(optimizer.param_groups):
            moved = [parameter for parameter in group["params"] if id(parameter) in own]
            if moved:
                group["params"] = [p for p in group["params"] if id(p) not in own]
                optimizer.add_param_group({**group, "params": moved, "lr": rate})


def scale_gradients(module: nn.Module, factor: Tensor) -> None:
    """Multiply all gradients by a number, in place."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            get_local_part(parameter.grad).mul_(factor)


def _policy_state(state: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Return the part of an objective's state that belongs to the policy, by the policy's names."""
    if state is None:
        return None
    prefix = _POLICY_PREFIX
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _module_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the part of an objective's state that belongs to the method.

    Safetensors refuse tensors that share memory, such as tied embeddings of a copied model. They
    are copied, and tied again when they are loaded into the modules.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        if not name.startswith(_POLICY_PREFIX):
            value = value.contiguous()
            found[name] = value.clone() if value.data_ptr() in seen else value
            seen.add(value.data_ptr())
    return found
