"""Runs cases in processes that are forked from one that has imported everything."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.cases import Case, Maker, Outcome, Place, Words, find_fault

SECONDS = 10
"""A case that takes longer hangs."""
TOGETHER = 25
"""How many cases a process runs."""
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
        outcome: see `find_fault`; also `hang`, `memory`, `crash` and `only after other cases`.
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


def fork(work: Callable[[], Iterable[Any]], seconds: float) -> tuple[list[Any], str | None]:
    """Return what `work` yields in a forked process, and why it ended early, if it did.

    Args:
        work: yields results that can be written as JSON.
        seconds: how long it may take until each of them.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.setsid()
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                for found in work():
                    pipe.write(json.dumps(found) + "\n")
                    pipe.flush()
                pipe.write("null\n")
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
                end = time.monotonic() + seconds if b"\n" in block else end
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    *lines, _ = raw.split(b"\n")
    found = [json.loads(line) for line in lines]
    if found and found[-1] is None:
        return found[:-1], None
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return found, "hang" if number == signal.SIGKILL else f"crash: signal {number}"
    return found, "crash: no result"


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
        open(number, mode, closefd=False, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
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


@dataclass(frozen=True)
class Cases:
    """What determines cases, and where they are made.

    Attributes:
        seed: with the number of a case, it determines the case.
        kinds: the kind of each case.
        makers: what makes each kind.
        bases: the folder of what is damaged.
        expected: what the commands on good runs give.
        folder: where the folders of the cases are made; they are emptied first.
        kept: whether they are left there.
    """

    seed: int
    kinds: Sequence[str]
    makers: Mapping[str, tuple[Maker, int]]
    bases: Path
    expected: dict[str, Any]
    folder: Path
    kept: bool


def run_cases(cases: Cases, numbers: Sequence[int]) -> Iterator[Result]:
    """Run cases in forked processes, several in each.

    Most of the time of a process is that of its first commands. A case that is not right is run
    again, alone: what is reported is what happens there. If only that is right, an earlier case
    left something behind, which is reported, too.
    """
    left = list(numbers)
    while left:
        found = _run_together(cases, left[:TOGETHER])
        left = left[len(found) :]
        for result in found:
            if result.right:
                yield result
            else:
                yield _run_alone(cases, result)
        if not found:
            yield _run_alone(cases, None, left.pop(0))


def _run_alone(cases: Cases, before: Result | None, number: int | None = None) -> Result:
    """Run a case in a process of its own; once more if it hangs, as a busy machine may be late."""
    number = number if before is None else before.number
    assert number is not None
    for _ in range(2):
        start = time.monotonic()
        found, why = fork(lambda: _work(cases, [number]), SECONDS)
        if why != "hang":
            break
    if found:
        result = Result(**found[0])
        if result.right and before is not None:
            fault = f"{before.outcome}: {before.fault}"
            return replace(result, outcome="only after other cases", fault=fault)
        return result
    folder = cases.folder / str(number)
    made = {}
    with contextlib.suppress(OSError, ValueError):
        made = json.loads((folder / "case.json").read_text())
    outcome, _, fault = str(why).partition(": ")
    if outcome == "hang":
        with contextlib.suppress(OSError):
            fault = (folder / "errors.log").read_text(errors="replace")[-160:]
    seconds = time.monotonic() - start
    change, commands = made.get("change", "?"), made.get("commands", [])
    return Result(number, cases.kinds[number], change, outcome, fault, commands, seconds)


def _run_together(cases: Cases, numbers: Sequence[int]) -> list[Result]:
    """Return the results of the first cases: of all, or of those before one that ended it."""
    return [Result(**found) for found in fork(lambda: _work(cases, numbers), SECONDS)[0]]


def _work(cases: Cases, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Make cases and run them, in this process, and yield results as dictionaries."""
    first = _peak()
    resource.setrlimit(resource.RLIMIT_AS, (_virtual() + 4 * MEMORY,) * 2)
    for number in numbers:
        start, before = time.monotonic(), _peak()
        folder, kind = cases.folder / str(number), cases.kinds[number]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.chdir(folder)
        _isolate(folder)
        random = Random(f"{cases.seed} {number}")
        case = cases.makers[kind][0](Place(random, folder, cases.bases, cases.expected))
        made = {"change": case.change, "commands": [list(words) for words in case.commands]}
        Path("case.json").write_text(json.dumps(made))
        try:
            outcome, fault = find_fault(case, run_commands(case))
        except Exception as error:  # What a command left cannot even be read.
            outcome, fault = "unreadable", f"{type(error).__name__}: {error}"
        taken = _peak() - before
        if taken > MEMORY:
            outcome, fault = "memory", f"{taken >> 20} MB"
        os.chdir(cases.folder)
        if not cases.kept and outcome in GOOD:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = round(time.monotonic() - start, 3)
        yield asdict(Result(number, kind, outcome=outcome, fault=fault, seconds=seconds, **made))
        if _peak() - first > MEMORY // 8:
            return  # What the next case takes would not be seen.


def prepare(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a forked process, then import here what it imported there."""

    def report() -> Iterator[dict[str, Any]]:
        _isolate(Path.cwd())
        try:
            found = work()
        except BaseException:
            yield {"error": traceback.format_exc()}
        else:
            yield {"found": found, "modules": list(sys.modules)}

    results, why = fork(report, 300)
    found = results[0] if results else {"error": why}
    if "error" in found:
        raise RuntimeError(f"the inputs to damage cannot be made: {found['error']}")
    for name in found["modules"]:
        if name not in sys.modules and name != "__main__":
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that collections in forked processes do not copy all pages
    return found["found"]


def _isolate(folder: Path) -> None:
    """Keep the data set library's files in the folder of the case; use one thread, and wait less.

    What survives a failure of the power is not tried, and waiting for the disk is most of the time
    of many cases.
    """
    import torch

    torch.set_num_threads(1)
    os.fsync = lambda handle: None
    datasets = sys.modules.get("datasets")
    if datasets is not None:
        datasets.config.HF_DATASETS_CACHE = folder / "cache"


def _peak() -> int:
    """Return the peak of resident memory in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
