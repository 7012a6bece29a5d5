"""Runs each case in a process of its own, forked from one that has imported everything."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Case, Outcome, Place, Words, find_fault

SECONDS = 10
"""A case that takes longer hangs."""
MEMORY = 1 << 30
"""The bytes that a case may take beyond those of the process that it was forked from."""
GOOD = ("accepted", "refused")


@dataclass(frozen=True)
class Result:
    """What came of a case.

    Attributes:
        number: its number.
        kind: what was changed, such as `data: csv`.
        change: how.
        outcome: see `find_fault`; also `hang`, `memory` and `crash`.
        fault: what is wrong.
        commands: what was run.
        seconds: how long it took.
    """

    number: int
    kind: str
    change: str
    outcome: str
    fault: str
    commands: list[Words]
    seconds: float

    @property
    def right(self) -> bool:
        """Whether it was accepted unchanged, or refused with a message."""
        return self.outcome in GOOD


def fork(work: Callable[[], Any], seconds: float) -> tuple[Any, str | None]:
    """Return what `work` returns in a forked process, or why it returned nothing.

    Args:
        work: a function whose result can be written as JSON.
        seconds: when to kill the process and what it started.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.setsid()
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                json.dump(work(), pipe)
        os._exit(0)
    os.close(writer)
    raw, end = b"", time.monotonic() + seconds
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while (left := end - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                block = pipe.read(1 << 20)
                if not block:
                    break
                raw += block
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if raw:
        with contextlib.suppress(ValueError):
            return json.loads(raw), None
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return None, "hang" if number == signal.SIGKILL else f"crash: signal {number}"
    return None, "crash: no result"


def run_commands(case: Case) -> list[Outcome]:
    """Run the commands of a case in this process, up to the first that fails."""
    outcomes: list[Outcome] = []
    for index, words in enumerate(case.commands):
        if case.steps:
            case.steps[index]()
        outcomes.append(run_command(words))
        if outcomes[-1].status != 0:
            break
    return outcomes


def run_command(words: Words) -> Outcome:
    """Run `freerun` with these words in this process."""
    from freerun.cli import main

    status: int | None
    with _redirected("output.log", "errors.log"), _recorded() as rows:
        try:
            status = main(words)
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            status = None
            traceback.print_exc()
    output, errors = (
        Path(name).read_text(errors="replace") for name in ("output.log", "errors.log")
    )
    return Outcome(status, output, errors, rows)


@contextlib.contextmanager
def _redirected(*paths: str) -> Iterator[None]:
    """Send the standard streams, also those of libraries in C, to files; the input is empty."""
    kept = [os.dup(number) for number in range(3)]
    for number, path in enumerate((os.devnull, *paths)):
        flags = os.O_RDONLY if number == 0 else os.O_RDWR | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False, encoding="utf-8")  # noqa: SIM115
        for number, mode in enumerate("rww")
    )
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, old in enumerate(kept):
            os.dup2(old, number)
            os.close(old)


@contextlib.contextmanager
def _recorded() -> Iterator[list[list[dict[str, Any]]]]:
    """Record the rows that tasks read, whose methods are wrapped for that."""
    from freerun.tasks import TASKS

    found: list[list[dict[str, Any]]] = []
    own = {task: task.rows for task in TASKS.values()}

    def wrap(read: Callable[..., Any]) -> Callable[..., Any]:
        def rows(self: Any) -> Any:
            splits = read(self)
            found.append([dict(row) for part in splits.values() for row in part])
            return splits

        return rows

    for task, read in own.items():
        task.rows = wrap(read)
    try:
        yield found
    finally:
        for task, read in own.items():
            task.rows = read


def run_case(
    number: int,
    seed: int,
    kind: str,
    maker: Callable[[Place], Case],
    bases: Path,
    expected: dict[str, Any],
    folder: Path,
) -> Result:
    """Make a case and run it in a forked process.

    Args:
        number: the number of the case.
        seed: with the number, it determines the case.
        kind: the name of the maker.
        maker: what makes it.
        bases: the folder of what is damaged.
        expected: what the commands on good runs give.
        folder: where to make it; it is emptied first.
    """

    def work() -> dict[str, Any]:
        os.chdir(folder)
        _isolate(folder)
        case = maker(Place(random.Random(f"{seed} {number}"), folder, bases, expected))
        Path("case.json").write_text(
            json.dumps({"change": case.change, "commands": [list(w) for w in case.commands]})
        )
        before = _peak()
        resource.setrlimit(resource.RLIMIT_AS, (_virtual() + 4 * MEMORY,) * 2)
        try:
            outcome, fault = find_fault(case, run_commands(case))
        except Exception as error:  # What a command left cannot even be read.
            outcome, fault = "unreadable", f"{type(error).__name__}: {error}"
        taken = _peak() - before
        if taken > MEMORY:
            outcome, fault = "memory", f"{taken >> 20} MB"
        return {"change": case.change, "outcome": outcome, "fault": fault}

    for attempt in (1, 2):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = time.monotonic()
        found, why = fork(work, SECONDS)
        seconds = time.monotonic() - start
        if why != "hang" or attempt == 2:
            break  # A busy machine may be late once; a case that hangs hangs again.
    made = {}
    with contextlib.suppress(OSError, ValueError):
        made = json.loads((folder / "case.json").read_text())
    if found is None:
        outcome, _, fault = str(why).partition(": ")
        found = {"change": made.get("change", "?"), "outcome": outcome, "fault": fault}
        if outcome == "hang":
            with contextlib.suppress(OSError):
                found["fault"] = (folder / "errors.log").read_text(errors="replace")[-160:]
    return Result(number, kind, **found, commands=made.get("commands", []), seconds=seconds)


def prepare(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a forked process, then import here what it imported there."""

    def report() -> dict[str, Any]:
        _isolate(Path.cwd())
        try:
            found = work()
        except BaseException:
            return {"error": traceback.format_exc()}
        return {"found": found, "modules": list(sys.modules)}

    found, why = fork(report, 300)
    if found is None or "error" in found:
        raise RuntimeError(f"the inputs to damage cannot be made: {why or found['error']}")
    for name in found["modules"]:
        if name not in sys.modules and name != "__main__":
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that collections in forked processes do not copy all pages
    return found["found"]


def _isolate(folder: Path) -> None:
    """Keep the data set library's files in the folder of the case, and everything off the net."""
    import torch

    torch.set_num_threads(1)
    datasets = sys.modules.get("datasets")
    if datasets is not None:
        datasets.config.HF_DATASETS_CACHE = folder / "cache"


def _peak() -> int:
    """Return the peak of resident memory in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
