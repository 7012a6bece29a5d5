"""A run that can be cut short at any moment: what its checkpoints hold, written and read."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers
from torch import Tensor
from transformers.trainer_callback import ExportableState

from freerun.errors import CheckpointError
from freerun.training.checkpoints import read_json, read_tensors, save_weights, saved_weights
from freerun.training.folders import newest, publish, renewing, rotate, saving, sweep, temporary
from freerun.training.objective import Objective
from freerun.training.sharding import (
    is_sharded,
    optimizer_state,
    set_optimizer_state,
    set_state,
    whole_state,
)

EXTRAS = "objective.safetensors"
STATE = "trainer_state.json"
OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"
_MODEL = "model."
"""What the names of the policy's weights begin with in an objective."""


class ResumableTrainer(transformers.Trainer):
    """A Trainer that keeps its state in folders checkpoint-UPDATE of the run's folder.

    A folder is written under another name, brought to the disk, and renamed last. It holds the
    policy (config.json and model.safetensors, or adapters), its card, the codec, the modules that a
    method trains beside it (objective.safetensors), optimiser, learning rate and random state
    (read by `torch.load` with `weights_only`), the method's own state, and trainer_state.json.
    """

    objective: Objective
    _kept: int | None = None
    """The update after which the model was as it is now, where that is not the last."""

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train, from a checkpoint where one is given.

        Args:
            resume_from_checkpoint: the checkpoint's folder; True for the newest in the run's.
            kwargs: see transformers.

        Raises:
            CheckpointError: where the checkpoint cannot be read, or there is none.
        """
        output = Path(self.args.output_dir)
        if self.args.should_save and output.is_dir():
            sweep(output)
        self.accelerator.wait_for_everyone()
        if resume_from_checkpoint is True:
            found = newest(output)
            if found is None:
                raise CheckpointError(f"{output}: there is no checkpoint to resume from")
            resume_from_checkpoint = str(found)
        if resume_from_checkpoint:
            read_json(Path(resume_from_checkpoint, STATE))
        return super().train(resume_from_checkpoint or None, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        output = Path(self.args.output_dir)
        folder = output / f"checkpoint-{self.state.global_step}"
        best = output / f"checkpoint-{self.state.best_global_step}"
        if best == folder or best.is_dir():
            self.state.best_model_checkpoint = str(best)
        written = temporary(folder)
        with saving(folder, folder.name):
            written.mkdir(parents=True, exist_ok=True)
            self.save_model(str(written), _internal_call=True)
            if not self.args.save_only_model:
                self._save_optimizer_and_scheduler(str(written))
                self._save_scaler(str(written))
                self._save_rng_state(str(written))
                self._save_method(written)
            if self.args.should_save:
                self._export_callbacks()
                self.state.save_to_json(str(written / STATE))
        # Outside, as a process that is lost says nothing of the disk.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            with saving(folder, folder.name):
                publish(written, folder)
            rotate(output, self.args.save_total_limit, best)
        self.accelerator.wait_for_everyone()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save policy and codec, in the form that `load_policy` reads; the first process writes.

        All processes must call this where parameters are sharded.
        """
        state = whole_state(self.objective) if is_sharded(self.objective) else None
        folder = Path(output_dir or self.args.output_dir)
        # A checkpoint is a new folder, in which other processes may have written their files.
        new = _internal_call or not folder.is_dir() or not any(folder.iterdir())
        if new or not self.args.should_save:
            self._save(output_dir, state)
            return
        with saving(folder / "model", "the model"), renewing(folder) as written:
            self._save(str(written), state)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save policy and codec; from `state_dict` where the objective does not have it all."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        save_weights(self.objective.model, folder, _of_model(state_dict))
        self.processing_class.save_pretrained(str(folder))
        extras = _extras(self.objective.state_dict() if state_dict is None else state_dict)
        if extras:
            safetensors.torch.save_file(extras, folder / EXTRAS)
        self._describe(folder)

    def _describe(self, folder: Path) -> None:
        """Say in the folder what the model is."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        self._load_policy(folder)
        own = _extras(self.objective.state_dict())
        if own:
            found = read_tensors(folder / EXTRAS)
            if found.keys() != own.keys():
                name = min(found.keys() ^ own.keys())
                raise CheckpointError(f"{folder / EXTRAS}: of another method: {name} differs")
            set_state(self.objective, found)
        self._load_method(folder)

    def _load_policy(self, folder: Path) -> None:
        weights = saved_weights(self.objective.model, folder)
        set_state(self.objective, {f"{_MODEL}{name}": value for name, value in weights.items()})

    def _load_best_model(self) -> None:
        self._load_policy(Path(self.args.output_dir, f"checkpoint-{self.state.best_global_step}"))
        self._kept = self.state.best_global_step

    def _init_training_state(self, max_steps: int, updates: int, epochs: int, *rest: Any) -> Any:
        """Find the best checkpoint again, should the run have moved; and go on only if it may."""
        trained, skipped = super()._init_training_state(max_steps, updates, epochs, *rest)
        best = Path(self.args.output_dir, f"checkpoint-{self.state.best_global_step}")
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)
        control = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        stopped = self.state.global_step > 0 and control.get("should_training_stop", False)
        return (epochs, 0) if stopped else (trained, skipped)

    def _export_callbacks(self) -> None:
        everyone = [*self.callback_handler.callbacks, self.control]
        self.state.stateful_callbacks = {
            type(one).__name__: one.state() for one in everyone if isinstance(one, ExportableState)
        }

    def _load_callback_state(self) -> None:
        """Bring callbacks back to where they were, in place."""
        for callback in self.callback_handler.callbacks:
            kept = self.state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and kept is not None:
                for name, value in kept["attributes"].items():
                    setattr(callback, name, value)

    def _save_rng_state(self, output_dir: str) -> None:
        name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
        state: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
            "cpu": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state(self.args.device)
        torch.save(state, Path(output_dir, self._of_rank("rng_state.pth")))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = Path(checkpoint, self._of_rank("rng_state.pth"))
        with reading(path):
            state = torch.load(path, weights_only=True)
        name, keys, *rest = state["numpy"]
        random.setstate(state["python"])
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        torch.set_rng_state(state["cpu"])
        if "cuda" in state and self.args.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.args.device)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        folder, optimizer = Path(output_dir), self.optimizer.optimizer
        if is_sharded(self.objective):
            state = optimizer_state(self.objective, optimizer)
        else:
            state = optimizer.state_dict()
        if self.args.should_save:
            torch.save(state, folder / OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = Path(checkpoint, OPTIMIZER)
        with reading(path):
            state = torch.load(path, map_location="cpu", weights_only=True)
            set_optimizer_state(self.objective, self.optimizer.optimizer, state)
        path = Path(checkpoint, SCHEDULER)
        with reading(path):
            self.lr_scheduler.load_state_dict(torch.load(path, weights_only=True))

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            with reading(Path(checkpoint)):
                super()._load_scaler(checkpoint)

    def _save_method(self, folder: Path) -> None:
        """Tensors of the method's state as safetensors, the rest as JSON; a file for each rank."""
        method: Any = self.objective.method
        if not hasattr(method, "state_dict"):
            return
        state = method.state_dict()
        tensors = {k: v.contiguous() for k, v in state.items() if isinstance(v, Tensor)}
        rest = {k: v for k, v in state.items() if not isinstance(v, Tensor)}
        safetensors.torch.save_file(tensors, folder / self._of_rank("method.safetensors"))
        path = folder / self._of_rank("method.json")
        path.write_text(json.dumps(rest, indent=1), encoding="utf-8")

    def _load_method(self, folder: Path) -> None:
        method: Any = self.objective.method
        if hasattr(method, "state_dict"):
            tensors = read_tensors(folder / self._of_rank("method.safetensors"))
            rest = read_json(folder / self._of_rank("method.json"))
            method.load_state_dict({**rest, **tensors})

    def _of_rank(self, name: str) -> str:
        """The name of a file that every process has of its own."""
        if self.args.world_size == 1:
            return name
        return f"{Path(name).stem}_{self.args.process_index}{Path(name).suffix}"


def _of_model(state: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    """What is of the policy in the state of an objective, by its names there."""
    if state is None:
        return None
    return {k.removeprefix(_MODEL): v for k, v in state.items() if k.startswith(_MODEL)}


def _extras(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is saved of an objective beside its policy."""
    return {k: v.contiguous() for k, v in state.items() if not k.startswith(_MODEL)}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file that cannot be read.

    Raises:
        CheckpointError: where it is missing, damaged, or of another run.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read ({reason})") from error
