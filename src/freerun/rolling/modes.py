"""Dropout off while a policy decodes, and back as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from freerun.policy import Policy


@contextmanager
def evaluation_mode(policy: Policy | nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; after it, every module is in the mode it was in."""
    modules = list(policy.modules()) if isinstance(policy, nn.Module) else []
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
