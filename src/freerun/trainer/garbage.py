"""Keeping Python's garbage collector from looking for what is not there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def left_alone(device: torch.device) -> Iterator[None]:
    """On the CPU, leave what is there at the start out of any search for garbage.

    Before it trains, transformers searches all objects to free memory on the device. With its
    libraries loaded that takes as long as tens of updates of a small model.
    """
    if device.type != "cpu" or gc.get_freeze_count() > 0:
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
