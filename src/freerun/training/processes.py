"""Processes: their CPUs, threads and garbage, how they are stopped, and which ones have ended."""

from __future__ import annotations

import gc
import math
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from freerun.errors import ProcessError

CGROUPS = Path("/sys/fs/cgroup")
STOP_WORKER = signal.SIGUSR1
"""The signal by which a comparison stops its workers; no terminal or system sends it."""


def stop_worker(number: int, frame: FrameType | None) -> None:
    """Handle `STOP_WORKER`, in workers only."""
    raise KeyboardInterrupt


def limit_threads() -> None:
    """Lower the number of torch threads to that of the CPUs of the container, if it is higher.

    Torch counts the CPUs of the machine. With more threads than the container has CPUs, threads
    wait for each other, which can make a small model a hundred times slower.
    """
    allowed = count_container_cpus()
    if allowed is not None and allowed < torch.get_num_threads():
        torch.set_num_threads(allowed)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Set the number of torch threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        count = os.cpu_count() or 1
    return min(count, count_container_cpus() or count)


def count_container_cpus(groups: Path = CGROUPS) -> int | None:
    """Return the number of CPUs that this container may use, rounded up; None without a limit."""
    try:
        if (groups / "cpu.max").exists():
            count_container_cpus, period = (groups / "cpu.max").read_text().split()
        else:
            count_container_cpus = (groups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (groups / "cpu" / "cpu.cfs_period_us").read_text()
        microseconds, of = int(count_container_cpus), int(period)
    except (OSError, ValueError):
        return None
    return max(1, math.ceil(microseconds / of)) if microseconds > 0 else None


@contextmanager
def name_dead_processes() -> Iterator[None]:
    """Raise an error that names the process of a run that has ended, if one has.

    Otherwise the error would only name the broken connection. Processes on other machines cannot be
    checked.

    Raises:
        ProcessError: if another process has ended. The message names its rank.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        yield
        return
    peers: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(peers, (socket.gethostname(), os.getpid()))
    try:
        yield
    except (RuntimeError, KeyboardInterrupt) as error:
        dead = _wait_for_dead(peers)
        if not dead:
            raise
        ranks = " and ".join(f"rank {rank} (process {peers[rank][1]})" for rank in dead)
        raise ProcessError(
            f"{ranks} of this run has ended, see above for a message of it; the same command "
            "resumes from the last checkpoint"
        ) from error


def _wait_for_dead(peers: Sequence[tuple[str, int]]) -> list[int]:
    """Return the ranks of processes on this machine that have ended, or end soon."""
    for _ in range(20):
        dead = [
            rank
            for rank, (host, number) in enumerate(peers)
            if host == socket.gethostname() and not _is_alive(number)
        ]
        if dead:
            return dead
        time.sleep(0.1)
    return []


def _is_alive(number: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        os.kill(number, 0)
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return state not in ("Z", "X")


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
