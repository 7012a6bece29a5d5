"""What tests run in processes of their own: to be killed, or to train together."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from transformers import TrainingArguments

from freerun.batch import Batch
from freerun.methods import (
    MIXER,
    ActorCritic,
    AnswerCorrection,
    Clock,
    Method,
    Modules,
    Outcome,
    Reinforce,
    ScheduledSampling,
    SelfDistillation,
)
from freerun.models.settings import RecurrentSettings
from freerun.study import compare
from freerun.training import Trainer, TrainingSettings, fit
from tests.helpers import searnn
from tests.training.tiny_task import Tiny

CONTEXT = multiprocessing.get_context("forkserver")
# The server imports what is slow once; a child is then a matter of milliseconds.
PRELOADED = "tests.training.children", "tests.training.huggingface", "accelerate.utils.deepspeed"
CONTEXT.set_forkserver_preload([*PRELOADED])

SETTINGS = {
    "updates": 30,
    "patience": 2,  # Which stops this run after 15.
    "evaluate_every": 3,
    "batch_size": 8,
    "learning_rate": 0.05,
    "lr_schedule": "linear",
    "threads": 1,
    "seed": 2,
}


SEARCH = searnn(
    roll_in="mixed_cells",
    cost="edit_distance",
    cell_loss="ll",
    cells=3,
    token_choice="biased",
    tokens=3,
    warm_up=0.2,
)
"""A search with all random choices that there are."""
OWN: dict[str, Any] = {"cost": "edit_distance", "samples": 2, "warm_up": 0.1}
MOVING = Reinforce(**OWN, baseline="mean", decay=0.5)
"""A method whose state is a number."""
LEARNED = MIXER(**OWN)
"""A method with a trained module."""
AVERAGED = SelfDistillation(warm_up=0.1, decay=0.7)
"""A method with a module that follows the policy."""
CRITIC = ActorCritic(cost="edit_distance", warm_up=0.2, target_rate=0.3, critic_size=6)
"""A method with a critic, and delayed networks."""
BUFFERED = AnswerCorrection(period=2, samplings=2, share=0.7)
"""A method whose state is a buffer of what was written in earlier updates."""


def tiny_fit(
    output: str, dropout: float = 0.3, method: Method | None = None, **changes: Any
) -> Any:
    """A run of a few updates, with dropout and random feedback."""
    task = Tiny()
    return fit(
        task,
        task.load(),
        method or ScheduledSampling(feedback="sample"),
        model=RecurrentSettings(
            hidden_size=8, embedding_size=6, attention="general", dropout=dropout
        ),
        training=TrainingSettings(**{**SETTINGS, **changes}),
        output=output,
        quiet=True,
    )


def tiny_comparison(output: str, jobs: int = 1, **settings: Any) -> None:
    """A comparison of two methods with two seeds each."""
    compare(
        Tiny(),
        ["mle", "scheduled_sampling:feedback=sample"],
        output=output,
        seeds=2,
        model=RecurrentSettings(hidden_size=8, embedding_size=6, dropout=0.3),
        training=TrainingSettings(**{**SETTINGS, "updates": 9, "seed": 0}),
        jobs=jobs,
        quiet=True,
        **settings,
    )


def tuned_comparison(output: str, jobs: int = 1) -> None:
    """The same comparison after tuning both methods."""
    tiny_comparison(output, jobs, tune=3)


def two_fits(output: str, budget: float) -> None:
    """Two runs in a row, without dropout: of so many updates, and of so many seconds."""
    tiny_fit(f"{output}/updates", dropout=0.0, patience=None)
    found = tiny_fit(f"{output}/budget", dropout=0.0, patience=None, budget=budget)
    assert found.seconds >= budget


def sharded_fit(output: str) -> None:
    """A run whose parameters a launcher asks to be sharded."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    tiny_fit(output, dropout=0.0, patience=None)


def uneven(output: str) -> None:
    """A run whose batches cannot be dealt evenly to two processes."""
    message = "batch_size is 7; it must be a multiple of the 2 processes"
    with pytest.raises(ValueError, match=f"^{message}$"):
        tiny_fit(output, batch_size=7)


@dataclass(frozen=True, kw_only=True)
class Edited(ScheduledSampling):
    """Scheduled sampling on targets of which every second lacks its end, with all kinds of modules.

    Of the trained modules, one has its own learning rate, and one is never used by a loss.
    """

    def build_modules(self, policy: nn.Module) -> Modules:
        linear = partial(nn.Linear, 2, 2, dtype=torch.float64)
        return Modules(
            trained={"critic": linear(), "spare": linear()},
            frozen={"average": linear()},
            learning_rates={"critic": 0.1},
        )

    def loss(self, policy: Any, batch: Batch, clock: Clock, modules: Modules) -> Outcome:
        cells = torch.arange(batch.mask.shape[1])
        ends = (cells == batch.lengths[:, None] - 1) & (batch.lengths > 1)[:, None]
        mask = batch.mask & ~(ends & (batch.ids % 2 == 0)[:, None])
        found = super().loss(policy, replace(batch, mask=mask), clock, modules)
        weights = modules["critic"].weight - modules["average"].weight
        return replace(found, total=found.total + weights.square().sum() * found.count)

    def after_update(self, policy: Any, clock: Clock, modules: Modules) -> None:
        with torch.no_grad():
            modules["average"].weight.lerp_(modules["critic"].weight, 0.1)


def at_update(optimizer: Any, update: int, action: Callable[[], Any]) -> None:
    """Do something in the midst of an update, from here on."""
    step, done = optimizer.step, 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done == update:
            action()
        return step(*args, **kwargs)

    optimizer.step = counted


def interrupted(output: str, update: int) -> None:
    """A run that ends in the middle of an update."""
    at_update(torch.optim.Adam, update, partial(os._exit, 7))
    tiny_fit(output)


def signalled(output: str, update: int, number: int, raises: bool = False) -> None:
    """A run that is told to stop in the middle of an update: by default, or by an exception."""
    step, done = torch.optim.Adam.step, 0

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(number, stop if raises else signal.SIG_DFL)

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done == update:
            os.kill(os.getpid(), number)
        return step(*args, **kwargs)

    torch.optim.Adam.step = counted  # type: ignore[method-assign]
    try:
        tiny_fit(output)
    except KeyboardInterrupt:
        os._exit(5)


def bereaved(output: str, update: int) -> None:
    """A run of two processes of which the second is killed; the first leaves its error."""
    rank = int(os.environ["RANK"])
    step, done = torch.optim.Adam.step, 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done == update and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **kwargs)

    torch.optim.Adam.step = counted  # type: ignore[method-assign]
    Path(output, f"pid-{rank}").write_text(str(os.getpid()))
    try:
        tiny_fit(f"{output}/run", dropout=0.0, patience=None)
    except RuntimeError as error:
        Path(output, f"error-{rank}").write_text(f"{type(error).__name__}: {error}")
    os._exit(0)


class Fuse:
    """Kills this process at the n-th event: a write, a rename, a deletion, or an update."""

    def __init__(self, event: int | None) -> None:
        self.left, self.count = event, 0
        for owner, name in (
            (os, "fsync"),
            (Path, "rename"),
            (Path, "replace"),
            (Path, "write_text"),
            (shutil, "rmtree"),
            (torch, "save"),
            (torch.optim.Adam, "step"),
        ):
            setattr(owner, name, self.before(getattr(owner, name)))

    def before(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            return action(*args, **kwargs)

        return counted


def fused(output: str, event: int | None, count: Any, method: Method | None = None) -> None:
    fuse = Fuse(event)
    tiny_fit(output, method=method)
    count.value = fuse.count


def cramped(output: str, update: int, limit: int, message: Any) -> None:
    """A run in which, from an update on, no file may be longer than `limit` bytes."""
    rule = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    at_update(torch.optim.Adam, update, rule)
    try:
        tiny_fit(output)
    except ValueError as error:
        message.send(f"{type(error).__name__}: {error}")
    else:
        message.send("it went well")


def exact(
    output: str,
    batch_size: int,
    accumulation: int,
    settings: dict[str, Any],
    method: Method | None = None,
) -> None:
    """A few updates in float64; the first process leaves the weights, and what was logged."""
    task = Tiny()
    data = task.load()
    torch.manual_seed(1)
    policy = RecurrentSettings(hidden_size=8, embedding_size=6, attention="additive").build(
        data.codec
    )
    trainer = Trainer(
        model=policy.double(),
        method=method or Edited(feedback="sample", schedule="constant", k=0.5),
        args=TrainingArguments(
            output,
            use_cpu=True,
            max_steps=6,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=3,
            gradient_accumulation_steps=accumulation,
            learning_rate=0.01,
            eval_strategy="steps",
            eval_steps=4,
            logging_steps=2,
            save_strategy="no",
            disable_tqdm=True,
            seed=5,
            **settings,
        ),
        processing_class=data.codec,
        train_dataset=data.train,
        eval_dataset=data.dev,
        task=task,
    )
    trainer.train()
    if trainer.args.should_save:
        trainer.save_model(output)
        modules = trainer.objective.method_modules.state_dict()
        safetensors.torch.save_file(modules, Path(output, "modules.safetensors"))
        Path(output, "log.json").write_text(json.dumps(trainer.state.log_history))


def alone(target: Callable[..., None], *args: Any) -> int | None:
    """Run `target` in a process of its own: its exit code."""
    process = CONTEXT.Process(target=_thrifty, args=(target, *args))
    process.start()
    process.join(180)
    return process.exitcode


def together(count: int, target: Callable[..., None], *args: Any) -> Sequence[int | None]:
    """Run `target` in processes that are joined as a launcher joins them: their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        CONTEXT.Process(target=_joined, args=(rank, count, port, target, args))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in processes]


def _thrifty(target: Callable[..., None], *args: Any) -> None:
    # What was inherited is not looked through for garbage, which would copy all of it.
    gc.freeze()
    torch.set_num_threads(1)
    target(*args)


def _joined(rank: int, count: int, port: int, target: Callable[..., None], args: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    _thrifty(target, *args)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
