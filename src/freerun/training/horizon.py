"""Estimate the number of updates within a budget of seconds, to which schedules are fitted."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from freerun.methods import Clock
from freerun.training.callbacks import WARM_UP
from freerun.training.objective import Objective
from freerun.training.resolve import Run
from freerun.training.settings import TrainingSettings
from freerun.training.trainer import RunTrainer

SHARE = 0.02
"""The timing takes at most this fraction of the budget, in addition to it."""
MIN_TIMED, MAX_TIMED = 5, 500
"""The minimum and maximum number of updates that are timed."""
FIRST_HORIZON = 1000
"""The horizon of the first round."""


class FixedClock(TrainerCallback):
    """Holds the clock at the middle of the schedule, where an update takes an average time.

    Later updates may take longer than earlier ones, as the model has to write more own tokens.

    Args:
        horizon: the length of the schedule.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Objective,
        **kwargs: Any,
    ) -> None:
        """Set the clock."""
        model.clock = Clock(self.horizon // 2, self.horizon, args.seed)


def estimate_horizon(run: Run, training: TrainingSettings) -> int:
    """Estimate how many updates fit into the budget, by timing some on copies that are discarded.

    A few updates give a rough estimate; then more are timed at the middle of a schedule of that
    length, since a schedule in fixed steps has another value at the middle of a longer run.

    Raises:
        ValueError: if there is no budget.
    """
    if training.budget is None:
        raise ValueError("budget is None; there is nothing to estimate")
    horizon, count = FIRST_HORIZON, MIN_TIMED
    for _ in range(2):
        seconds = _time_updates(run, training, horizon, count)
        horizon = max(1, round(training.budget / seconds))
        count = min(max(round(SHARE * horizon), MIN_TIMED), MAX_TIMED)
    return horizon


def _time_updates(run: Run, training: TrainingSettings, horizon: int, count: int) -> float:
    """Return the mean seconds of `count` updates at the middle of a schedule of `horizon`."""
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(training, report_to=(), budget=None, updates=WARM_UP + count)
        arguments = settings.arguments(Path(folder), run.task, quiet=True)
        arguments.eval_strategy = arguments.save_strategy = arguments.logging_strategy = "no"
        arguments.load_best_model_at_end = False
        trainer = RunTrainer(
            replace(run, policy=copy.deepcopy(run.policy), dev=None),
            arguments,
            optimizer_cls_and_kwargs=settings.optimizer_cls_and_kwargs,
            callbacks=[FixedClock(horizon)],
        )
        trainer.train()
    # Every process uses the result of the first one.
    seconds = torch.tensor([trainer.meter.seconds_per_update], dtype=torch.float64)
    seconds = seconds.to(arguments.device)
    if arguments.world_size > 1:
        torch.distributed.broadcast(seconds, src=0)
    return float(seconds)
