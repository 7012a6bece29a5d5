"""How many updates a budget of seconds buys: schedules are fitted to them beforehand."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from freerun.methods.base import Clock, Method
from freerun.tasks.base import Data, Task
from freerun.trainer.objective import Objective
from freerun.trainer.settings import TrainingSettings
from freerun.trainer.trainer import Trainer

SHARE = 0.02
"""The share of the budget that each round of timing may take beside it."""
MOST = 5.0
"""The most seconds of a round."""
GUESS = 1000
"""The horizon of the first round."""


class _At(TrainerCallback):
    """Holds the clock at the middle of the schedule, where an update costs what it does on average.

    Later updates may cost more than earlier ones: more own tokens have to be written.
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


def estimated_horizon(
    policy: nn.Module, method: Method, task: Task, data: Data, training: TrainingSettings
) -> int:
    """The updates that fit into the budget, by timing some on copies that are thrown away.

    A schedule of fixed steps stands elsewhere at the middle of a longer run, so the timing is done
    again with what was found first.

    Raises:
        ValueError: where there is no budget.
    """
    if training.budget is None:
        raise ValueError("budget is None; there is nothing to estimate")
    horizon = GUESS
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            settings = replace(training, tensorboard=False)
            arguments = settings.arguments(Path(folder), task, quiet=True)
            arguments.eval_strategy = arguments.save_strategy = "no"
            arguments.logging_strategy = "no"
            arguments.load_best_model_at_end = False
            trainer = Trainer(
                copy.deepcopy(policy),
                copy.deepcopy(method),
                arguments,
                data.codec,
                data.train,
                budget=min(MOST, SHARE * training.budget),
                optimizer_cls_and_kwargs=settings.optimizer_cls_and_kwargs,
                callbacks=[_At(horizon)],
            )
            trainer.train()
        horizon = max(1, round(training.budget / _agreed(trainer)))
    return horizon


def _agreed(trainer: Trainer) -> float:
    """The seconds of an update, as the first process found them."""
    seconds = torch.tensor(
        [trainer.meter.seconds_per_update], dtype=torch.float64, device=trainer.args.device
    )
    if trainer.args.world_size > 1:
        torch.distributed.broadcast(seconds, src=0)
    return float(seconds)
