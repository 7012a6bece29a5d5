"""Updates of methods, to be timed side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from freerun.batch import Batch
from freerun.methods import Clock, Method
from freerun.policy import Policy


def make_updates(
    policy: Policy, method: Method, batches: Sequence[Batch], clocks: Sequence[Clock]
) -> Callable[[], None]:
    """Return a function that makes an update with each batch, which changes no weights."""
    modules = method.build_modules(policy).to(policy.device)
    optimizer = torch.optim.Adam([*policy.parameters(), *modules.parameters()], 0.0)

    def run() -> None:
        for batch, clock in zip(batches, clocks, strict=True):
            optimizer.zero_grad()
            outcome = method.loss(policy, batch, clock, modules)
            (outcome.total / outcome.count).backward()
            optimizer.step()
            method.after_update(policy, clock, modules)
        optimizer.zero_grad()

    return run
