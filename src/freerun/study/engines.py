"""Jobs side by side: what an engine is, and the loop that gives jobs to its workers."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import Any

from freerun.errors import ProcessError
from freerun.study.view import RunsView
from freerun.study.work import Failure, Job, Parcel
from freerun.training.progress import Status


class Worker(ABC):
    """A process that does one job after another.

    Attributes:
        job: the job that it is doing; None if there is none.
        ready: whether it can begin a job.
    """

    job: Job | None = None
    ready: bool = True

    @abstractmethod
    def begin(self, job: Job) -> None:
        """Tell it to do a job."""

    @abstractmethod
    def receive(self) -> Any:
        """Receive what it sent: a `Status`, the result of its job, or the `Failure` of it.

        None means that it has become ready, or that nothing has happened.
        """

    @abstractmethod
    def stop(self) -> None:
        """Tell it to save a checkpoint and end its job."""

    @abstractmethod
    def end(self) -> None:
        """Wait until it has ended."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""


class Engine(ABC):
    """Starts workers. It is a context, at the end of which it releases what it needs.

    Args:
        jobs: the number of workers at a time.
        threads: the number of threads of each.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        self.jobs, self.threads = jobs, threads

    def __enter__(self) -> Engine:
        """Return the engine."""
        return self

    def __exit__(self, *error: object) -> None:
        """Release what it needs."""
        self.close()

    def close(self) -> None:  # noqa: B027
        """Release what it needs."""

    @abstractmethod
    def start(self, parcel: Parcel, slot: int) -> Worker:
        """Start a worker.

        Args:
            parcel: the work.
            slot: its number, from 0; workers at the same time have different ones.
        """

    @abstractmethod
    def wait(self, workers: list[Worker]) -> list[Worker]:
        """Wait until workers have sent something, and return these."""


def do_side_by_side(
    engine: Engine, parcel: Parcel, waiting: list[Job], view: RunsView
) -> Generator[tuple[Job, Any], None, None]:
    """Do jobs in the workers of an engine; yield each with its result or `Failure` as it ends.

    If the generator is closed or an exception is raised, the workers save checkpoints and end.

    Args:
        engine: the engine.
        parcel: the work.
        waiting: the jobs, which are removed as they begin; more may be added at each yield.
        view: where progress is shown.

    Raises:
        ProcessError: if workers cannot be started.
    """
    crew = _Crew(engine, parcel)
    finished = False
    try:
        while crew.assign(waiting, view):
            for worker in engine.wait(crew.active):
                found, job = worker.receive(), worker.job
                if job is None:
                    if isinstance(found, Failure):
                        raise ProcessError(f"a worker cannot be started: {found.message}")
                elif isinstance(found, Status):
                    view.update(job.number, found)
                elif found is not None:
                    worker.job = None
                    if isinstance(found, Failure):  # its process may be damaged
                        crew.dismiss(worker)
                    yield job, found
        finished = True
    finally:
        _end_all(list(crew.workers.values()), stop=not finished)


class _Crew:
    """The workers of a comparison.

    Attributes:
        workers: the workers, by their slots.
    """

    def __init__(self, engine: Engine, parcel: Parcel) -> None:
        self.engine, self.parcel = engine, parcel
        self.workers: dict[int, Worker] = {}

    @property
    def active(self) -> list[Worker]:
        """The workers that will send something."""
        return [each for each in self.workers.values() if each.job is not None or not each.ready]

    def assign(self, waiting: list[Job], view: RunsView) -> bool:
        """Give jobs to workers without one, and start as many workers as are needed and allowed.

        Returns:
            Whether there is a job left, waiting or begun.
        """
        for _ in range(len(waiting)):
            idle = (each for each in self.workers.values() if each.ready and each.job is None)
            starting = sum(not each.ready for each in self.workers.values())
            worker = next(idle, None)
            if worker is None and len(self.workers) < self.engine.jobs and starting < len(waiting):
                slot = next(slot for slot in itertools.count() if slot not in self.workers)
                worker = self.workers[slot] = self.engine.start(self.parcel, slot)
            if worker is None:
                break
            if worker.ready:
                worker.job = waiting.pop(0)
                view.start(worker.job.number)
                worker.begin(worker.job)
        return bool(waiting) or any(each.job is not None for each in self.workers.values())

    def dismiss(self, worker: Worker) -> None:
        """End a worker, in whose place another one may be started."""
        worker.end()
        self.workers = {slot: each for slot, each in self.workers.items() if each is not worker}


def _end_all(workers: list[Worker], *, stop: bool) -> None:
    """End workers; when interrupted once more, end them at once."""
    try:
        for worker in workers:
            if stop:
                worker.stop()
        for worker in workers:
            worker.end()
    except BaseException:
        for worker in workers:
            with suppress(OSError):
                worker.kill()
        raise


def name_failures(failures: Mapping[str, Failure], finished: int, count: int) -> ProcessError:
    """Return the error that names the runs that failed.

    Args:
        failures: why runs failed, by their names.
        finished: the number of runs that are finished.
        count: the number of all runs. Those of a method whose tuning failed have not begun.
    """
    named = "; ".join(f"{name}: {failure.message}" for name, failure in failures.items())
    others = ""
    if finished:
        whole = finished + len(failures) == count
        others = "the others are finished, and " if whole else f"{finished} are finished, and "
    return ProcessError(
        f"{len(failures)} of {count} runs failed: {named}; {others}the same command resumes"
    )
