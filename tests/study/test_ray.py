"""Runs by Ray: the same results on other machines, whose files come back."""

from __future__ import annotations

import errno
import socket
import sys
import warnings
from pathlib import Path

import pytest

from freerun.errors import ProcessError, WriteError
from freerun.imports import MissingExtraError
from freerun.methods import MLE
from freerun.settings import SettingError
from freerun.study import compare
from freerun.study.ray_workers import RayEngine, count_places
from freerun.study.transfer import read_folder, write_folder
from freerun.study.work import Parcel
from freerun.training.folders import checkpoints
from tests.helpers import raises
from tests.study.test_jobs import MODEL, TRAINING, TROUBLE, make_work
from tests.study.test_killed import outcome
from tests.training.children import tiny_comparison
from tests.training.tiny_task import Tiny


def test_folders_are_sent_in_parts(tmp_path):
    files = {"a": b"0123456789", "b/c": b"", "b/.d": b"abc"}
    for name, content in files.items():
        path = tmp_path / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    parts = list(read_folder(tmp_path / "one", size=4))
    assert parts == [("a", b"0123"), ("a", b"4567"), ("a", b"89"), ("b/.d", b"abc"), ("b/c", b"")]
    other = tmp_path / "x" / "two"
    for _ in range(2):  # the second time in place of the first
        write_folder(iter(parts), other)
        found = {str(p.relative_to(other)): p.read_bytes() for p in other.rglob("*") if p.is_file()}
        assert found == files
        (other / "old").write_text("old")
    assert list(read_folder(tmp_path / "missing")) == []
    write_folder([], other)
    assert (other / "a").exists()
    assert [path.name for path in other.parent.iterdir()] == ["two"]


def test_an_interrupted_transfer_leaves_a_folder_as_it_was(tmp_path):
    folder = tmp_path / "run"
    write_folder([("a", b"old")], folder)

    def parts():
        yield "a", b"new"
        raise OSError(28, "No space left on device")

    with raises(
        WriteError,
        f"{folder}: cannot be written (No space left on device); is the disk full? Models that "
        "were saved are intact: run the same command again",
    ):
        write_folder(parts(), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (folder / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("machines", "threads", "count"),
    [
        ([{"CPU": 4.0}, {"CPU": 3.0}, {}], 1, 7),
        ([{"CPU": 4.0}, {"CPU": 3.0}], 2, 3),
        ([{"CPU": 4.0, "GPU": 2.0}, {"CPU": 8.0}], 1, 2),
        ([{"CPU": 1.0, "GPU": 4.0}], 1, 1),
        ([{"CPU": 1.0}], 2, 0),
    ],
)
def test_as_many_runs_as_the_machines_have_cpus_or_gpus_for(machines, threads, count):
    assert count_places(machines, threads) == count


def test_ray_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    message = "engine=ray needs ray, which is missing: pip install 'freerun[ray]'"
    with raises(MissingExtraError, message):
        RayEngine(1, 1, None)


class Scripted:
    """A cluster that is never asked."""

    _mark = None


def test_an_address_where_nothing_listens_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    message = (
        f"engine=ray: no cluster at {address} ([Errno {errno.ECONNREFUSED}] Connection refused)"
    )
    with raises(SettingError, message):
        RayEngine._connect(Scripted(), address)


def test_what_is_defined_in_a_script_is_refused():
    parcel = Parcel.pack(make_work({}))
    message = (
        "engine=ray: a task, a method or a function is defined in the script itself, which other "
        "machines cannot import; define it in a module"
    )
    changed = parcel.__class__(parcel.imported, b"", frozenset({"__main__"}), parcel.output)
    with raises(SettingError, message):
        RayEngine.start(Scripted(), changed, 0)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two machines with one CPU each, which are processes of this machine."""
    pytest.importorskip("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 2**27}
        made = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
        for _ in range(2):
            made.add_node(num_cpus=1, **memory)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture(params=["shared", "elsewhere"])
def place(request, monkeypatch):
    """Whether the machines share the folder of the comparison, or do not find it."""
    if request.param == "elsewhere":
        start = RayEngine.start

        def start_elsewhere(self, parcel, slot):
            self._mark = Path("missing")
            return start(self, parcel, slot)

        monkeypatch.setattr(RayEngine, "start", start_elsewhere)
    return request.param


@pytest.mark.slow
@pytest.mark.usefixtures("cluster", "place")
@pytest.mark.parametrize("trials", [None, 2], ids=["as given", "tuned"])
def test_results_and_weights_are_those_of_runs_in_turn(tmp_path, trials):
    tiny_comparison(str(tmp_path / "in_turn"), tune=trials)
    tiny_comparison(str(tmp_path / "ray"), jobs=None, engine="ray", tune=trials)
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "in_turn")
    assert not list((tmp_path / "ray").rglob(".*"))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_failed_runs_are_named_and_resumed_anywhere(tmp_path, place, monkeypatch):
    methods = {
        "fault": f"{TROUBLE}:Trouble",
        "killed": f"{TROUBLE}:Trouble:killed=true",
        "mle": MLE(),
    }
    settings = {"seeds": [0], "model": MODEL, "training": TRAINING, "quiet": True}
    output = tmp_path / "out"
    with pytest.raises(ProcessError) as caught:
        compare(Tiny(), methods, output=output, engine="ray", **settings)
    assert str(caught.value).startswith("2 of 3 runs failed: ")
    assert "ValueError: this method has a fault" in str(caught.value)
    assert "killed, seed 0: its process was killed by SIGKILL" in str(caught.value)
    assert (output / "mle" / "seed-0" / "model.safetensors").exists()
    for name in ("fault", "killed"):
        assert checkpoints(output / name / "seed-0")[-1].name == "checkpoint-4"
    monkeypatch.setenv("TROUBLE_REPAIRED", "1")
    results = compare(Tiny(), methods, output=output, **settings).results
    curves = [results["methods"][name]["learning_curves"][0] for name in methods]
    for curve in curves:
        assert [point["loss"] for point in curve] == [point["loss"] for point in curves[2]]
