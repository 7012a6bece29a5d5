"""The loop that gives jobs to workers, with workers that do nothing."""

from __future__ import annotations

import io
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from freerun.errors import ProcessError
from freerun.methods import MLE
from freerun.study.engines import Engine, Worker, do_side_by_side, name_failures
from freerun.study.view import RunsView
from freerun.study.work import Failure, Job, Parcel
from freerun.training import TrainingSettings
from freerun.training.progress import Status
from tests.helpers import raises
from tests.study.test_jobs import make_work

STATUS = Status(1.0, 2.0, "1/2", None, "")


class Stub(Job):
    def do(self, work, data, *, quiet=True, on_progress=None, run=None):
        raise AssertionError

    def summarize(self, result, work):
        raise AssertionError


def job(number):
    return Stub(number, f"job {number}", "mle", MLE(), TrainingSettings(), Path(str(number)))


class Scripted(Worker):
    """A worker that sends what it is told to, and writes down what happens to it."""

    def __init__(self, slot, engine):
        self.slot, self.engine = slot, engine
        self.ready = engine.starts is None
        self.sent = deque([] if self.ready else engine.starts)
        self.note("starts")

    def note(self, what):
        self.engine.log.append(f"{self.slot} {what}")

    def begin(self, job):
        self.note(f"begins {job.number}")
        self.sent.extend(self.engine.sends(job))

    def receive(self):
        found = self.sent.popleft()
        self.ready = self.ready or found is None
        return found

    def stop(self):
        self.note("stops")

    def end(self):
        self.note("ends")

    def kill(self):
        self.note("is killed")


class ScriptedEngine(Engine):
    def __init__(self, jobs, sends=lambda job: [STATUS, f"result {job.number}"], starts=None):
        super().__init__(jobs, 1)
        self.sends, self.starts, self.log = sends, starts, []

    def start(self, parcel, slot):
        return Scripted(slot, self)

    def wait(self, workers):
        found = [worker for worker in workers if worker.sent]
        assert found
        return found[:1]


def do(engine, waiting):
    view = RunsView(Console(file=io.StringIO()), {number: str(number) for number in range(-9, 9)})
    return do_side_by_side(engine, Parcel.pack(make_work({})), waiting, view)


def numbers(ended):
    return [(job.number, found) for job, found in ended]


@pytest.mark.parametrize("starts", [None, [None]], ids=["at once", "later"])
@pytest.mark.parametrize(("jobs", "count"), [(1, 3), (2, 3), (4, 3)])
def test_all_jobs_are_done_by_at_most_so_many_workers(jobs, count, starts):
    engine = ScriptedEngine(jobs, starts=starts)
    assert sorted(numbers(do(engine, list(map(job, range(count)))))) == [
        (number, f"result {number}") for number in range(count)
    ]
    workers = min(jobs, count)
    assert sum("starts" in line for line in engine.log) == workers
    assert engine.log[-workers:] == [f"{slot} ends" for slot in range(workers)]
    assert "stops" not in " ".join(engine.log)


def test_jobs_may_be_added_when_one_has_ended_and_idle_workers_begin_them():
    engine = ScriptedEngine(2, lambda job: [f"result {job.number}"])
    waiting, found = [job(-2), job(-1)], []
    for each, result in do(engine, waiting):
        found.append(result)
        if each.number == -1:
            waiting += [job(0), job(1), job(2)]
    assert found[:2] == ["result -2", "result -1"]
    assert sorted(found[2:]) == ["result 0", "result 1", "result 2"]
    assert {line for line in engine.log if "begins" in line} >= {"0 begins 0", "1 begins 1"}


def test_after_a_failure_another_worker_takes_the_place():
    failure = Failure("disk full")
    engine = ScriptedEngine(1, lambda job: [failure if job.number == 0 else "fine"])
    assert numbers(do(engine, [job(0), job(1)])) == [(0, failure), (1, "fine")]
    assert engine.log == [
        "0 starts", "0 begins 0", "0 ends", "0 starts", "0 begins 1", "0 ends"
    ]  # fmt: skip
    engine = ScriptedEngine(2, lambda job: [failure])
    assert numbers(do(engine, [job(0)])) == [(0, failure)]
    assert engine.log == ["0 starts", "0 begins 0", "0 ends"]


@pytest.mark.parametrize(
    ("finished", "count", "end"),
    [
        (2, 3, "the others are finished, and the same command resumes"),
        (0, 1, "the same command resumes"),
        (3, 6, "3 are finished, and the same command resumes"),
    ],
)
def test_failures_in_one_line(finished, count, end):
    error = name_failures({"mle, tuning": Failure("disk full")}, finished, count)
    assert str(error) == f"1 of {count} runs failed: mle, tuning: disk full; {end}"


def test_workers_that_cannot_start_end_all():
    engine = ScriptedEngine(2, starts=[Failure("another version of torch")])
    with raises(ProcessError, "a worker cannot be started: another version of torch"):
        list(do(engine, [job(0), job(1)]))
    assert engine.log == ["0 starts", "1 starts", "0 stops", "1 stops", "0 ends", "1 ends"]


def test_workers_are_stopped_if_nobody_waits_any_more():
    engine = ScriptedEngine(2)
    with closing(do(engine, [job(0), job(1), job(2)])) as ended:
        next(ended)
    assert engine.log[-4:] == ["0 stops", "1 stops", "0 ends", "1 ends"]


def test_a_second_interrupt_kills_workers():
    engine = ScriptedEngine(1)
    ended = do(engine, [job(0), job(1)])
    next(ended)

    def interrupt(self):
        raise KeyboardInterrupt

    engine.start = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripted, "end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ended.close()
    assert engine.log[-1] == "0 is killed"
