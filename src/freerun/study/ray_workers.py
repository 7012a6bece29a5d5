"""Workers on the machines of a Ray cluster.

On its machine, an actor of Ray starts a worker process as `--jobs` does, passes on what is sent to
it, and what it sends. So a job runs in the same way everywhere, and the actor answers while it
runs. If the folder of the comparison is not there, the worker uses a folder of its own, and the
files of each job are sent there before it begins, and back when it ends.
"""

from __future__ import annotations

import os
import pickle
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from freerun.errors import WriteError
from freerun.imports import import_extra
from freerun.settings import SettingError
from freerun.study.engines import Engine, Worker
from freerun.study.transfer import Part, read_folder, write_folder
from freerun.study.work import Failure, Job, Parcel
from freerun.study.workers import ProcessWorker
from freerun.training.folders import get_temporary_path
from freerun.training.progress import Status
from freerun.training.record import find_versions

_SAME = ("freerun", "python", "torch", "transformers")
"""The versions that must be the same on all machines."""


class RayEngine(Engine):
    """Workers on the machines of a Ray cluster, each with one GPU if there are any.

    Args:
        jobs: the number of workers; None for as many as there are CPUs or GPUs for.
        threads: the number of threads of each.
        address: the address of the cluster; None for Ray's default.

    Raises:
        SettingError: if the cluster cannot be reached, or has no machine for a worker.
        MissingExtraError: if Ray is missing.
    """

    def __init__(self, jobs: int | None, threads: int, address: str | None) -> None:
        self.ray = import_extra("ray", "ray", "engine=ray")
        if PartialState().num_processes > 1:
            raise SettingError("engine is ray; under a launcher, it must be processes")
        self._mark: Path | None = None
        self._owned = not self.ray.is_initialized()
        if self._owned:
            self._connect(address)
        machines = [each["Resources"] for each in self.ray.nodes() if each["Alive"]]
        self.gpus = int(any(each.get("GPU", 0) >= 1 for each in machines))
        count = count_places(machines, threads)
        if jobs is None and count == 0:
            self.close()
            raise SettingError(
                f"engine=ray: no machine of the cluster has {threads} CPUs for a run; to wait for "
                "one, give the number of jobs"
            )
        super().__init__(jobs or count, threads)

    def _connect(self, address: str | None) -> None:
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        host, _, port = where.rpartition(":")
        try:
            if host and port.isdigit() and "/" not in where:
                # Ray itself would try for minutes.
                socket.create_connection((host.strip("[]"), int(port)), 5).close()
            self.ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError, OverflowError) as error:
            said = " ".join(str(error).split())
            raise SettingError(f"engine=ray: no cluster at {where} ({said:.200})") from None

    def close(self) -> None:
        """Leave the cluster; one that was started is stopped."""
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)
        if self._owned:
            self.ray.shutdown()

    def start(self, parcel: Parcel, slot: int) -> RayWorker:
        """Start a worker.

        Raises:
            SettingError: if other machines cannot import something that the work refers to.
        """
        if "__main__" in parcel.modules:
            raise SettingError(
                "engine=ray: a task, a method or a function is defined in the script itself, which "
                "other machines cannot import; define it in a module"
            )
        if self._mark is None:
            self._mark = get_temporary_path(parcel.output.absolute() / f"shared-{uuid.uuid4()}")
            self._mark.touch()
        return RayWorker(self, parcel, _Head(Path.cwd(), self._mark, find_versions()))

    def wait(self, workers: list[Worker]) -> list[Worker]:
        """Wait until workers have sent something."""
        calls = {each.call: each for each in workers if isinstance(each, RayWorker)}
        return [calls[call] for call in self.ray.wait(list(calls))[0]]


def count_places(machines: list[dict[str, float]], threads: int) -> int:
    """Count the runs that fit on machines at a time.

    Args:
        machines: the resources of each machine; GPUs count if one has any.
        threads: the number of threads of a run.
    """
    cpus = [int(each.get("CPU", 0)) // threads for each in machines]
    gpus = [int(each.get("GPU", 0)) for each in machines]
    return sum(map(min, cpus, gpus)) if any(gpus) else sum(cpus)


@dataclass(frozen=True)
class _Head:
    """The process that started the comparison.

    Attributes:
        folder: its current folder.
        mark: a file in the folder of the comparison, which is there where that folder is shared.
        versions: the versions of its libraries.
    """

    folder: Path
    mark: Path
    versions: dict[str, Any]


class RayWorker(Worker):
    """A worker on a machine of a Ray cluster.

    Args:
        engine: its engine.
        parcel: the work.
        head: the process that starts it.

    Attributes:
        call: the pending call of the actor.
        shared: whether its machine has the folder of the comparison.
    """

    ready = False

    def __init__(self, engine: RayEngine, parcel: Parcel, head: _Head) -> None:
        self.ray, self.output, self.shared = engine.ray, parcel.output, True
        # One call waits for the worker process while another one tells it to stop.
        actor = self.ray.remote(_Relay).options(
            num_cpus=engine.threads, num_gpus=engine.gpus, max_concurrency=3
        )
        self.actor = actor.remote()
        self.call = self.actor.start.remote(parcel, engine.threads, head)

    def begin(self, job: Job) -> None:
        """Tell it to do a job."""
        files = []
        if not self.shared:
            files = [self.ray.put(part) for part in read_folder(self.output / job.folder)]
        self.call = self.actor.begin.remote(pickle.dumps(job), str(job.folder), files)

    def receive(self) -> Any:
        """Receive what it sent; if its machine cannot be reached any more, why."""
        try:
            found = self.ray.get(self.call)
            if not self.ready:
                self.ready = not isinstance(found, Failure)
                self.shared = found
                return None if self.ready else found
            # It comes from a process of this comparison.
            found = pickle.loads(found)  # noqa: S301
            if isinstance(found, Status):
                self.call = self.actor.receive.remote()
            else:
                self._fetch()
            return found
        except self.ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            return Failure(f"its machine or process has ended ({said:.300})")
        except WriteError as error:
            return Failure.describe(error)

    def _fetch(self) -> None:
        """Bring the files of the last job to the folder of the comparison, if it is elsewhere."""
        if not self.shared and self.job is not None:
            write_folder(self._read(), self.output / self.job.folder)

    def _read(self) -> Iterator[Part]:
        while (part := self.ray.get(self.actor.read.remote())) is not None:
            yield part

    def stop(self) -> None:
        """Tell it to save a checkpoint and end."""
        if self.ready:
            self.actor.stop.remote()

    def end(self) -> None:
        """Wait until it has ended."""
        with suppress(self.ray.exceptions.RayError):
            if self.ready:
                self.ray.get(self.actor.end.remote())
                self._fetch()
                self.ray.get(self.actor.clean.remote())
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        self.ray.kill(self.actor)


class _Relay:
    """The actor of a worker: it starts a process on its machine, and passes on messages."""

    worker: ProcessWorker
    scratch: tempfile.TemporaryDirectory[str] | None = None
    folder: Path
    parts: Iterator[Part] | None = None

    def start(self, parcel: Parcel, threads: int, head: _Head) -> bool | Failure:
        """Start the process; return whether the folder of the comparison is there."""
        versions = find_versions()
        other = [name for name in _SAME if versions[name] != head.versions[name]]
        if other:
            here = ", ".join(f"{name} {versions[name]}" for name in other)
            there = ", ".join(f"{name} {head.versions[name]}" for name in other)
            return Failure(
                f"{os.uname().nodename} has {here}, but the comparison was started with {there}"
            )
        if head.folder.is_dir():
            os.chdir(head.folder)
        if not head.mark.exists():
            self.scratch = tempfile.TemporaryDirectory(prefix="freerun-")
        self.worker = ProcessWorker(0, threads)
        self.worker.prepare(parcel, None if self.scratch is None else Path(self.scratch.name))
        return self.scratch is None

    def begin(self, order: bytes, folder: str, files: list[Any]) -> bytes:
        """Begin a job with its files, and return what the process sends first."""
        if self.scratch is not None:
            ray = import_extra("ray", "ray", "engine=ray")
            self.folder, self.parts = Path(self.scratch.name, folder), None
            write_folder(map(ray.get, files), self.folder)
        self.worker.send(order)
        return self.receive()

    def receive(self) -> bytes:
        """Return what the process sends next."""
        return self.worker.receive_bytes()

    def read(self) -> Part | None:
        """Return the next part of the files of the last job; None after the last part."""
        if self.parts is None:
            self.parts = read_folder(self.folder)
        return next(self.parts, None)

    def stop(self) -> None:
        """Tell the process to save a checkpoint and end."""
        self.worker.stop()

    def end(self) -> None:
        """Wait until the process has ended."""
        self.worker.end()

    def clean(self) -> None:
        """Delete the folder of its own."""
        if self.scratch is not None:
            self.scratch.cleanup()
