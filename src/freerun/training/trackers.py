"""Trackers of runs, through transformers: TensorBoard, Weights & Biases, MLflow and Trackio."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from freerun.imports import import_extra

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


def require_trackers(names: tuple[str, ...]) -> None:
    """Check that trackers are installed.

    Raises:
        MissingExtraError: if one is not.
    """
    for name in names:
        import_extra(name, name, f"report_to={name}")


@contextmanager
def tracking(trainer: Trainer, name: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Give a run its own run of each tracker, which a resumed run continues in TensorBoard.

    Args:
        trainer: the trainer of the run.
        name: the name of the run.
        settings: its settings, which trackers save with transformers' arguments.
    """
    arguments = trainer.args
    if not arguments.report_to:
        yield
        return
    arguments.run_name = name
    arguments.project = "freerun"  # of Trackio; the others read it from the environment
    plain = arguments.to_dict
    arguments.to_dict = lambda: {**plain(), **settings}
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, TensorBoardCallback):
            if callback.logging_dir is None:
                callback.logging_dir = os.fspath(Path(arguments.output_dir, "runs"))
            trainer.add_callback(_Hyperparameters(callback, settings))
    if "wandb" not in arguments.report_to:
        yield
        return
    import wandb  # type: ignore[import-not-found, unused-ignore]

    # Transformers leaves it open, and the next run of a comparison would go on in it.
    own = wandb.run is None
    try:
        yield
    finally:
        if own:
            wandb.finish()


class _Hyperparameters(TrainerCallback):
    """Writes the settings for TensorBoard's table of hyperparameters.

    Args:
        board: the callback that has the writer.
        settings: the settings.
    """

    def __init__(self, board: TensorBoardCallback, settings: Mapping[str, Any]) -> None:
        self.board = board
        self.settings = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in settings.items()
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the settings."""
        if self.board.tb_writer is None:  # not the first process
            return
        from torch.utils.tensorboard.summary import hparams

        for each in hparams(self.settings, {f"eval/{args.metric_for_best_model}": None}):
            self.board.tb_writer.file_writer.add_summary(each)
