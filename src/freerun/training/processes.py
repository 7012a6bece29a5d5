"""Resources of a process: threads, and time for garbage collection."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

GROUPS = Path("/sys/fs/cgroup")


def limit_threads(wanted: int | None) -> None:
    """Set the number of torch threads; by default at most the number of CPUs of the container.

    Torch counts the CPUs of the machine. With more threads than the container has CPUs, threads
    wait for each other, which can make a small model a hundred times slower.
    """
    if wanted is not None:
        torch.set_num_threads(wanted)
        return
    allowed = quota()
    if allowed is not None and allowed < torch.get_num_threads():
        torch.set_num_threads(allowed)


def quota(groups: Path = GROUPS) -> int | None:
    """Return the number of CPUs that this container may use, rounded up; None without a limit."""
    try:
        if (groups / "cpu.max").exists():
            quota, period = (groups / "cpu.max").read_text().split()
        else:
            quota = (groups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (groups / "cpu" / "cpu.cfs_period_us").read_text()
        microseconds, of = int(quota), int(period)
    except (OSError, ValueError):
        return None
    return max(1, math.ceil(microseconds / of)) if microseconds > 0 else None


@contextmanager
def freeze_garbage(device: torch.device) -> Iterator[None]:
    """Exempt existing objects from garbage collection, if training is on the CPU.

    Before training, transformers runs a full collection to free memory on the device. With its
    libraries loaded that takes as long as tens of updates of a small model, and frees nothing on
    the CPU.
    """
    if device.type != "cpu" or gc.get_freeze_count() > 0:
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
