"""Time the parts of an update of SEARNN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from timing import seconds

from freerun.methods.searnn import LearnedRollIn
from freerun.methods.searnn.search import Search

PARTS: dict[str, tuple[type, str]] = {
    "roll_in": (LearnedRollIn, "write"),
    "read": (Search, "read"),
    "roll_outs": (Search, "roll_out"),
    "costs": (Search, "compute_costs"),
}
"""The function of each part; the rest is the choice of tokens and the pass with gradient."""


@contextmanager
def timed(device: torch.device) -> Iterator[dict[str, float]]:
    """Record the seconds of each part inside the block."""
    spent = dict.fromkeys(PARTS, 0.0)

    def noted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def run(*args: object, **kwargs: object) -> object:
            output: list[object] = []
            spent[name] += seconds(lambda: output.append(method(*args, **kwargs)), device)
            return output[0]

        return run

    with ExitStack() as stack:
        for name, (owner, attribute) in PARTS.items():
            new = noted(name, getattr(owner, attribute))
            stack.enter_context(mock.patch.object(owner, attribute, new))
        yield spent
