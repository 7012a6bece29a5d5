"""Runs side by side: the same results as one after another, whatever happens to their processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from freerun.data import DataError
from freerun.errors import ProcessError
from freerun.evaluation import GREEDY
from freerun.imports import import_object
from freerun.methods import MLE
from freerun.models.settings import RecurrentSettings
from freerun.settings import SettingError
from freerun.study import compare, workers
from freerun.study.plan import Plan
from freerun.study.running import choose_engine
from freerun.study.specs import parse_method
from freerun.study.view import RunsView
from freerun.study.work import Failure, Parcel, Work
from freerun.study.workers import check_jobs
from freerun.training import TrainingSettings
from freerun.training import processes as training_processes
from freerun.training.folders import checkpoints
from freerun.training.progress import Status
from tests.helpers import raises
from tests.study.test_killed import find_workers, is_running, outcome
from tests.training.children import tiny_comparison
from tests.training.tiny_task import Tiny

TROUBLE = Path(__file__).with_name("trouble.py")
MODEL = RecurrentSettings(hidden_size=8, embedding_size=6)
TRAINING = TrainingSettings(updates=8, evaluate_every=2, batch_size=8)
NEEDS_TWO = pytest.mark.skipif(training_processes.count_cpus() < 2, reason="needs two CPUs")


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    output = tmp_path_factory.mktemp("in_turn") / "out"
    tiny_comparison(str(output))
    return output


@NEEDS_TWO
def test_results_and_weights_are_those_of_runs_in_turn(in_turn, tmp_path):
    tiny_comparison(str(tmp_path / "out"), jobs=2)
    assert outcome(tmp_path / "out") == outcome(in_turn)
    assert not list((tmp_path / "out").rglob(".*"))


@NEEDS_TWO
def test_failed_runs_are_named_and_resumed_and_the_others_finish(tmp_path, monkeypatch, capfd):
    methods = {
        "fault": f"{TROUBLE}:Trouble",
        "killed": f"{TROUBLE}:Trouble:killed=true",
        "mle": MLE(),
    }
    settings = {"seeds": [0], "model": MODEL, "training": TRAINING, "quiet": True, "jobs": 2}
    output = tmp_path / "out"
    with pytest.raises(ProcessError) as caught:
        compare(Tiny(), methods, output=output, **settings)
    line = (
        TROUBLE.read_text()
        .splitlines()
        .index('        raise ValueError("this method has a fault")')
    )
    fault = f"fault, seed 0: {TROUBLE}, line {line + 1}: ValueError: this method has a fault"
    killed = (
        "killed, seed 0: its process was killed by SIGKILL; the system kills processes if memory "
        "is full"
    )
    first, _, rest = str(caught.value).partition(": ")
    assert first == "2 of 3 runs failed"
    assert rest.removesuffix("; the others are finished, and the same command resumes") in (
        f"{fault}; {killed}",
        f"{killed}; {fault}",
    )
    assert (output / "mle" / "seed-0" / "model.safetensors").exists()
    assert not (output / "results.json").exists()
    assert "Traceback" not in capfd.readouterr().err
    for name in ("fault", "killed"):
        assert checkpoints(output / name / "seed-0")[-1].name == "checkpoint-4"
    monkeypatch.setenv("TROUBLE_REPAIRED", "1")
    results = compare(Tiny(), methods, output=output, **{**settings, "jobs": 1}).results
    curves = [results["methods"][name]["learning_curves"] for name in methods]
    for curve in curves:
        assert [point["loss"] for point in curve[0]] == [point["loss"] for point in curves[2][0]]


COMMAND = """
import sys
from freerun.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""
OPTIONS = [
    "--methods", "mle", "scheduled_sampling", "--seeds", "1", "--jobs", "2", "--quiet",
    "--longest", "5", "--model.hidden_size", "8", "--model.embedding_size", "6",
    "--training.updates", "100000", "--training.evaluate_every", "100000",
]  # fmt: skip


@NEEDS_TWO
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.slow
def test_workers_end_with_the_command_and_save_if_it_can_tell_them(tmp_path, number):
    script, output = tmp_path / "program.py", tmp_path / "out"
    script.write_text(COMMAND)
    words = ["compare", "tests.training.tiny_task:Tiny", *OPTIONS, "--output", str(output)]
    words = [word.replace("--longest", "--task.longest") for word in words]
    paths = os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, str(script), *words],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    folders = [output / name / "seed-0" for name in ("mle", "scheduled_sampling")]
    while not all((folder / "freerun.json").exists() for folder in folders):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    time.sleep(1.0)
    children = find_workers(process.pid)
    assert len(children) == 2
    if number == signal.SIGINT:  # a terminal sends it to all processes
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, shown = process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, children))
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        return
    assert process.returncode == 128 + number
    message = "freerun compare: interrupted; the same command resumes from the last checkpoint"
    assert shown.strip() == message
    assert all(checkpoints(folder) for folder in folders)


@pytest.mark.parametrize(
    ("jobs", "threads", "message"),
    [
        (5, 1, "jobs is 5; with threads=1 for each it must be at most 4, as there are 4 CPUs"),
        (2, 3, "jobs is 2; with threads=3 for each it must be at most 1, as there are 4 CPUs"),
    ],
)
def test_jobs_out_of_range(monkeypatch, jobs, threads, message):
    monkeypatch.setattr("freerun.study.workers.count_cpus", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises(SettingError, message):
        check_jobs(jobs, threads)
    check_jobs(4, 1)
    check_jobs(2, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("processes", 0, 1, None), "jobs is 0; it must be at least 1"),
        (("dask", 2, 1, None), "engine is 'dask'; it must be one of processes, ray"),
        (
            ("processes", 2, 1, "auto"),
            "ray_address is 'auto'; it has an effect only with engine=ray",
        ),
    ],
)
def test_engines_that_are_not_there(settings, message):
    with raises(SettingError, message):
        choose_engine(*settings, runs=2)


@pytest.mark.parametrize(
    ("count", "visible", "slot", "chosen"),
    [
        (1, None, 1, None),
        (2, None, 0, "0"),
        (2, None, 3, "1"),
        (2, "5, 7", 1, "7"),
    ],
)
def test_each_worker_has_one_of_several_gpus(monkeypatch, count, visible, slot, chosen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = workers._choose_environment(slot, 3)
    assert found.get("CUDA_VISIBLE_DEVICES") == chosen
    assert found["OMP_NUM_THREADS"] == "3"


def test_an_environment_is_restored(monkeypatch):
    monkeypatch.setenv("FREERUN_A", "1")
    monkeypatch.delenv("FREERUN_B", raising=False)
    with workers._environment({"FREERUN_A": "2", "FREERUN_B": "3"}):
        assert (os.environ["FREERUN_A"], os.environ["FREERUN_B"]) == ("2", "3")
    assert os.environ["FREERUN_A"] == "1"
    assert "FREERUN_B" not in os.environ


def make_work(digests, method=None):
    plan = Plan(Tiny(), {"mle": method or MLE()}, (0,), MODEL, TRAINING)
    return Work(plan, Path("out"), [GREEDY], digests)


def test_data_that_differ_between_processes_are_refused():
    task = Tiny()
    digests = make_work({}).plan.record(task.load()).data
    assert make_work(digests).load().codec == task.load().codec
    message = (
        "the task tiny: the examples of dev differ between processes; the rows of a task must not "
        "depend on the process, as the order of a set does"
    )
    with raises(DataError, message):
        make_work({**digests, "dev": "another"}).load()


def test_what_other_processes_cannot_import_is_refused():
    class Own(MLE):
        """Defined in a function."""

    with pytest.raises(SettingError, match=r"^the comparison cannot be sent to other processes \("):
        Parcel.pack(make_work({}, Own()))
    work = make_work({})
    assert replace(Parcel.pack(work)).unpack() == work


def test_only_files_that_the_work_needs_are_imported_by_other_processes(tmp_path):
    (tmp_path / "elsewhere.py").write_text("VALUE = 1\n")
    import_object(f"{tmp_path / 'elsewhere.py'}:VALUE", "object")
    places = {path for path, _ in Parcel.pack(make_work({})).imported.files.values()}
    assert not places & {str(tmp_path / "elsewhere.py"), str(TROUBLE)}
    method = parse_method(f"{TROUBLE}:Trouble")
    places = {path for path, _ in Parcel.pack(make_work({}, method)).imported.files.values()}
    assert places == {str(TROUBLE)}
    cost = parse_method(f"searnn:cost={tmp_path / 'elsewhere.py'}:VALUE")
    places = {path for path, _ in Parcel.pack(make_work({}, cost)).imported.files.values()}
    assert places == {str(tmp_path / "elsewhere.py")}


STATUS = Status(20.0, 40.0, "20/40", 4.0, "loss 0.5000")


def show(*, terminal):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    with RunsView(console, {0: "mle, seed 0", 1: "[half], seed 0"}) as view:
        view.start(0)
        view.update(0, STATUS)
        view.start(1)
        view.update(1, STATUS)
        if terminal:
            view._bars.refresh()
        view.finish(0, "12.3 %")
        view.fail(1, Failure("[disk] full"))
    return text.getvalue()


def test_plain_lines_name_the_run(monkeypatch):
    monkeypatch.setattr("freerun.study.view.PLAIN_EVERY", -1.0)
    assert show(terminal=False).splitlines() == [
        "mle, seed 0: 20/40  4.0/s  loss 0.5000",
        "[half], seed 0: 20/40  4.0/s  loss 0.5000",
        "mle, seed 0: 12.3 %",
        "[half], seed 0 failed: [disk] full",
    ]
    monkeypatch.setattr("freerun.study.view.PLAIN_EVERY", 30.0)
    assert len(show(terminal=False).splitlines()) == 2


def test_bars_of_all_runs_on_a_terminal():
    shown = show(terminal=True)
    for part in ("all runs", "0/2", "mle, seed 0", "[half], seed 0", "20/40", "[disk] full"):
        assert part in shown


def test_failures_in_words():
    assert Failure.describe(DataError("no rows")) == Failure("no rows")
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError as error:
        found = Failure.describe(error)
    assert found.message.endswith("RuntimeError: two lines")
    assert workers._explain_exit(3) == "its process ended with status 3"
