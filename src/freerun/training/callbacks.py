"""Callbacks: the clock of methods, the time of training, signals, and logs."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from freerun.methods import Clock
from freerun.training.objective import Objective
from freerun.training.processes import STOP_WORKER, stop_worker

STOPPING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
"""The signals that tell a process to stop."""
WARM_UP = 5
"""The number of first updates of a process that `seconds_per_update` leaves out."""


class ClockCallback(TrainerCallback):
    """Sets the clock of the objective before each update, and notifies the method after it.

    It also counts epochs: transformers takes the stream of the whole run for one.

    Args:
        horizon: the number of updates that schedules are fitted to.
        read: the number of examples that an update reads.
        examples: the number of examples of an epoch.
    """

    def __init__(self, horizon: int, read: int, examples: int) -> None:
        self.horizon, self.read, self.examples = horizon, read, examples

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Objective,
        **kwargs: Any,
    ) -> None:
        """Set the clock of the update."""
        model.begin_update(Clock(state.global_step, self.horizon, args.seed))

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Objective,
        **kwargs: Any,
    ) -> None:
        """Correct the epoch, and call the method's `after_update` with the clock of that update."""
        state.epoch = state.global_step * self.read / self.examples
        model.method.after_update(model.model, model.clock, model.method_modules)


class Meter(TrainerCallback, ExportableState):
    """Measures the time of training: fetching batches and updating, without evaluating and saving.

    Args:
        budget: the seconds after which training stops; None for no limit.

    Attributes:
        seconds: the seconds of training so far, including those before the run was resumed.
        updates: the number of updates measured.
    """

    def __init__(self, budget: float | None = None) -> None:
        self.budget = budget
        self.seconds = 0.0
        self.updates = 0
        self.timed_seconds = 0.0
        self.timed_updates = 0
        self._fresh = 0
        self._started: float | None = None

    @property
    def seconds_per_update(self) -> float:
        """The mean time of an update, without the first few, which are slower."""
        if self.timed_updates == 0:
            return self.seconds / max(self.updates, 1)
        return self.timed_seconds / self.timed_updates

    def start(self) -> None:
        """Start the timer, if it is not running."""
        if self._started is None:
            self._started = time.perf_counter()

    def fetch(self) -> None:
        """Start the timer, except for the first batch: a resumed run first skips to it."""
        if self._fresh > 0:
            self.start()

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Start the timer."""
        self.start()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Stop the timer; if the budget is spent, evaluate, save and end training."""
        if self._started is not None:
            elapsed = time.perf_counter() - self._started
            self._started = None
            self.seconds += elapsed
            self.updates += 1
            self._fresh += 1
            if self._fresh > WARM_UP:
                self.timed_seconds += elapsed
                self.timed_updates += 1
        if self.budget is not None and self._spent(args):
            control.should_training_stop = True
            control.should_evaluate |= args.eval_strategy != "no"
            control.should_save |= args.save_strategy != "no"

    def _spent(self, args: TrainingArguments) -> bool:
        """Return whether the budget is spent, by the timer of the first process."""
        if args.world_size > 1:
            seconds = torch.tensor([self.seconds], dtype=torch.float64, device=args.device)
            torch.distributed.broadcast(seconds, src=0)
            self.seconds = float(seconds)
        return self.budget is not None and self.seconds >= self.budget

    def state(self) -> dict[str, Any]:
        """Return the state that a checkpoint saves."""
        kept = ("seconds", "updates", "timed_seconds", "timed_updates")
        return {
            "args": {"budget": self.budget},
            "attributes": {name: getattr(self, name) for name in kept},
        }


class SaveBeforeStop(TrainerCallback):
    """Saves a checkpoint when the process gets a signal to stop, and then lets it stop.

    A signal during an update is delayed until the update has ended and a checkpoint is written, and
    then has the effect that it had before training. A second signal has this effect at once, and so
    has one during an evaluation or while a checkpoint is written. Several processes, which would
    have to agree on an update, stop at once.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._handlers: dict[int, Any] = {}
        self._busy = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Handle signals, except those that are ignored."""
        alone = args.world_size == 1 and args.save_strategy != "no"
        if not alone or threading.current_thread() is not threading.main_thread():
            return
        for number in (*STOPPING, STOP_WORKER):
            handler = signal.getsignal(number)
            of_others = number == STOP_WORKER and handler is not stop_worker
            if handler not in (None, signal.SIG_IGN) and not of_others:
                self._handlers[number] = handler
                signal.signal(number, self._handle)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Delay signals from now on."""
        self._busy = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save if a signal came; sums since the last log would be lost otherwise."""
        if self.signal is not None:
            control.should_save = control.should_log = True
        self._busy = control.should_save or control.should_evaluate

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop if a signal came."""
        if self.signal is not None:
            self._stop(self.signal)

    def restore(self) -> None:
        """Restore the previous handlers of signals."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None and not self._busy:
            self.signal = number
        else:
            self._stop(number)

    def _stop(self, number: int) -> None:
        self.restore()
        signal.raise_signal(number)


class LogWithEvaluation(TrainerCallback):
    """Logs the training loss at every evaluation, so that learning curves have both."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Log if an evaluation follows."""
        control.should_log |= control.should_evaluate
