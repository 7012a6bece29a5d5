"""Runs side by side, in worker processes on this machine.

Workers are started anew rather than forked, as libraries with threads and GPUs need. They get the
work once and then the numbers of runs through a pipe, and send back how far they are and results.
A worker ignores the signals of terminals and systems, which reach the process that started it, too;
that process tells it to stop. If the pipe breaks, that process has ended, and the worker ends.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import torch

from freerun.errors import ProcessError
from freerun.study.results import SeedResult
from freerun.study.view import RunsView
from freerun.study.work import Failure, Parcel
from freerun.training.callbacks import STOPPING
from freerun.training.processes import STOP_WORKER, stop_worker, using_threads
from freerun.training.progress import Status

_STOP = "stop"
_GPUS = "CUDA_VISIBLE_DEVICES"


def train_side_by_side(
    parcel: Parcel, count: int, jobs: int, threads: int, view: RunsView
) -> Generator[tuple[int, SeedResult | Failure], None, None]:
    """Train runs in worker processes; yield the number and the result of each as it ends.

    If the generator is closed or an exception is raised, the workers save checkpoints and end.

    Args:
        parcel: the work.
        count: the number of runs.
        jobs: the number of workers.
        threads: the number of threads of each.
        view: where progress is shown.
    """
    waiting = deque(range(count))
    workers: list[_Worker] = []
    finished = False
    try:
        for slot in range(min(jobs, count)):
            workers.append(_Worker(parcel, slot, threads))
            workers[-1].begin(waiting.popleft(), view)
        while busy := [worker for worker in workers if worker.run is not None]:
            for pipe in connection.wait([worker.pipe for worker in busy]):
                worker = next(each for each in busy if each.pipe is pipe)
                found, run = worker.receive(), worker.run
                if isinstance(found, Status):
                    view.update(run, found)
                    continue
                worker.run = None
                yield run, found
                if waiting and isinstance(found, Failure):  # its process may be damaged
                    worker.end()
                    workers[workers.index(worker)] = worker = _Worker(parcel, worker.slot, threads)
                if waiting:
                    worker.begin(waiting.popleft(), view)
        finished = True
    finally:
        _end_all(workers, None if finished else _STOP)


def _end_all(workers: list[_Worker], order: str | None) -> None:
    """End workers; when interrupted once more, end them at once."""
    try:
        for worker in workers:
            worker.send(order)
        for worker in workers:
            worker.end()
    except BaseException:
        for worker in workers:
            worker.process.kill()
        raise


class _Worker:
    """A worker process.

    Args:
        parcel: the work.
        slot: the number of the worker, which its GPU follows from.
        threads: the number of its threads.

    Attributes:
        run: the number of the run that it is training; None if there is none.
    """

    def __init__(self, parcel: Parcel, slot: int, threads: int) -> None:
        self.slot = slot
        self.run: Any = None
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(
            target=_serve, args=(theirs, parcel, threads), name=f"freerun-worker-{slot}"
        )
        # This would unblock signals if it was started together with the first process.
        resource_tracker.ensure_running()
        with _blocking_signals(), _environment(_choose_environment(slot, threads)):
            self.process.start()
        theirs.close()

    def begin(self, run: int, view: RunsView) -> None:
        """Tell the worker to train a run."""
        self.run = run
        view.start(run)
        self.send(run)

    def send(self, order: int | str | None) -> None:
        """Send an order, unless the worker has ended."""
        with suppress(OSError):
            self.pipe.send(order)

    def receive(self) -> Status | SeedResult | Failure:
        """Receive what the worker sent; if it has ended, why."""
        try:
            found: Status | SeedResult | Failure = self.pipe.recv()
            return found
        except (EOFError, OSError):
            self.process.join()
            return Failure(_explain_exit(self.process.exitcode))

    def end(self) -> None:
        """Wait until the worker has ended, after its last order."""
        self.send(None)
        self.process.join()
        self.pipe.close()


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


def _serve(pipe: Connection, parcel: Parcel, threads: int) -> None:
    """Train runs, in a worker."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(STOP_WORKER, stop_worker)
    orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, orders), daemon=True).start()
    with suppress(KeyboardInterrupt), using_threads(threads):
        work = data = None
        while (run := orders.get()) is not None:
            try:
                if work is None or data is None:
                    work = parcel.unpack()
                    data = work.load()
                pipe.send(work.train(run, data, on_progress=pipe.send))
            except Exception as error:
                pipe.send(Failure.describe(error))


def _listen(pipe: Connection, orders: queue.SimpleQueue[int | None]) -> None:
    """Pass on the orders of the process that started this worker; end if that has ended."""
    main = threading.main_thread().ident
    try:
        while True:
            order = pipe.recv()
            if order == _STOP and main is not None:
                signal.pthread_kill(main, STOP_WORKER)
            else:
                orders.put(order)
    except (EOFError, OSError):
        os._exit(1)


def name_failures(failures: Mapping[str, Failure], count: int) -> ProcessError:
    """Return the error that names the runs that failed.

    Args:
        failures: why runs failed, by their names.
        count: the number of all runs.
    """
    named = "; ".join(f"{name}: {failure.message}" for name, failure in failures.items())
    return ProcessError(
        f"{len(failures)} of {count} runs failed: {named}; the others are finished, and the same "
        "command resumes"
    )
