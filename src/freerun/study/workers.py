"""Worker processes on this machine.

Workers are started anew rather than forked, as libraries with threads and GPUs need. They get the
work once and then jobs through a pipe, and send back how far they are and results. A worker ignores
the signals of terminals and systems, which reach the process that started it, too; that process
tells it to stop. If the pipe breaks, that process has ended, and the worker ends.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from freerun.settings import SettingError
from freerun.study.engines import Engine, Worker
from freerun.study.work import Failure, Job, Parcel
from freerun.training.callbacks import STOPPING
from freerun.training.processes import STOP_WORKER, count_cpus, stop_worker, using_threads

_STOP = b"stop"
_END = b""
_GPUS = "CUDA_VISIBLE_DEVICES"


class Processes(Engine):
    """Worker processes on this machine, each with one GPU if there are several."""

    def __enter__(self) -> Processes:
        """Start all processes, which import libraries while this one prepares the work."""
        self._early = {slot: ProcessWorker(slot, self.threads) for slot in range(self.jobs)}
        return self

    def close(self) -> None:
        """End processes that were not needed."""
        for worker in self._early.values():
            worker.kill()
            worker.end()

    def start(self, parcel: Parcel, slot: int) -> ProcessWorker:
        """Start a worker."""
        worker = self._early.pop(slot, None) or ProcessWorker(slot, self.threads)
        worker.prepare(parcel)
        return worker

    def wait(self, workers: list[Worker]) -> list[Worker]:
        """Wait until workers have sent something."""
        pipes: dict[Any, Worker] = {
            each.pipe: each for each in workers if isinstance(each, ProcessWorker)
        }
        return [pipes[pipe] for pipe in connection.wait(list(pipes))]


def check_jobs(jobs: int, threads: int) -> None:
    """Check the number of runs side by side on this machine, which is at least 2.

    Raises:
        SettingError: if there are more than CPUs for them, or it is used under a launcher.
    """
    if PartialState().num_processes > 1:
        raise SettingError(f"jobs is {jobs}; under a launcher, it must be 1")
    cpus = count_cpus()
    if jobs * threads > cpus and not torch.cuda.is_available():
        raise SettingError(
            f"jobs is {jobs}; with threads={threads} for each it must be at most "
            f"{max(1, cpus // threads)}, as there are {cpus} CPUs"
        )


class ProcessWorker(Worker):
    """A worker process.

    Args:
        slot: the number of the worker, which its GPU follows from.
        threads: the number of its threads.
    """

    def __init__(self, slot: int, threads: int) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(
            target=_serve, args=(theirs, threads), name=f"freerun-worker-{slot}"
        )
        # This would unblock signals if it was started together with the first process.
        resource_tracker.ensure_running()
        with _blocking_signals(), _environment(_choose_environment(slot, threads)):
            self.process.start()
        theirs.close()

    def prepare(self, parcel: Parcel, scratch: Path | None = None) -> None:
        """Send the work, before the first job.

        Args:
            parcel: the work.
            scratch: a folder to use in place of that of the comparison. If the process that starts
                the worker is killed, the worker deletes it.
        """
        self.send(pickle.dumps((parcel, scratch)))

    def begin(self, job: Job) -> None:
        """Tell it to do a job."""
        self.send(pickle.dumps(job))

    def send(self, order: bytes) -> None:
        """Send a pickled job or another order, unless the worker has ended."""
        with suppress(OSError):
            self.pipe.send_bytes(order)

    def receive(self) -> Any:
        """Receive what the worker sent; if it has ended, why."""
        # It comes from a process of this comparison.
        return pickle.loads(self.receive_bytes())  # noqa: S301

    def receive_bytes(self) -> bytes:
        """Receive the same without unpickling it, which needs the modules of the work."""
        try:
            return self.pipe.recv_bytes()
        except (EOFError, OSError):
            self.process.join()
            return pickle.dumps(Failure(_explain_exit(self.process.exitcode)))

    def stop(self) -> None:
        """Tell it to save a checkpoint and end."""
        self.send(_STOP)

    def end(self) -> None:
        """Wait until it has ended, after its last job."""
        self.send(_END)
        self.process.join()
        self.pipe.close()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()


def _explain_exit(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = "; the system kills processes if memory is full" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{memory}"
    return f"its process ended with status {code}"


def _choose_environment(slot: int, threads: int) -> dict[str, str]:
    """Choose the environment of a worker: one GPU if there are several, and its threads."""
    chosen = {"OMP_NUM_THREADS": str(threads)}
    count = torch.cuda.device_count()
    if count > 1:
        visible = os.environ.get(_GPUS, "").split(",")
        names = visible if len(visible) == count else [str(number) for number in range(count)]
        chosen[_GPUS] = names[slot % count].strip()
    return chosen


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while, in which a process is started."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _blocking_signals() -> Iterator[None]:
    """Block the signals that stop processes; a process that is started meanwhile never gets them.

    Otherwise it would get them while it imports libraries, before it can ignore them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, threads: int) -> None:
    """Do jobs, in a worker."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(STOP_WORKER, stop_worker)
    try:
        # It comes from the process that started this one, as all orders do.
        parcel, scratch = pickle.loads(pipe.recv_bytes())  # noqa: S301
    except EOFError:
        return
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, orders, scratch), daemon=True).start()
    with suppress(KeyboardInterrupt), using_threads(threads):
        work = data = None
        while order := orders.get():
            try:
                if work is None or data is None:
                    work = parcel.unpack()
                    work = work if scratch is None else replace(work, output=scratch)
                    data = work.load()
                job: Job = pickle.loads(order)  # noqa: S301
                pipe.send(job.do(work, data, on_progress=pipe.send))
            except Exception as error:
                pipe.send(Failure.describe(error))


def _listen(pipe: Connection, orders: queue.SimpleQueue[bytes], scratch: Path | None) -> None:
    """Pass on the orders of the process that started this worker; end if that has ended."""
    main = threading.main_thread().ident
    try:
        while True:
            order = pipe.recv_bytes()
            if order == _STOP and main is not None:
                signal.pthread_kill(main, STOP_WORKER)
            else:
                orders.put(order)
    except (EOFError, OSError):
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)
