"""Digests: damage of any kind is named with its file."""

import shutil
import subprocess

import pytest

from freerun.digests import DIGESTS, check_digests, write_digests
from freerun.errors import CheckpointError

FILES = {"config.json": "{}", "model.safetensors": "weights", "optimizer.pt": "state", "a b": "c"}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_text("inner")
    write_digests(tmp_path)
    check_digests(tmp_path, whole=True)
    return tmp_path


def fault(folder, whole=True):
    with pytest.raises(CheckpointError) as caught:
        check_digests(folder, whole=whole)
    return str(caught.value).removeprefix(f"{folder}/")


def test_sha256sum_reads_them(folder):
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum")
    subprocess.run(["sha256sum", "-c", "--strict", DIGESTS], cwd=folder, check=True)
    assert len((folder / DIGESTS).read_text().splitlines()) == len(FILES) + 1


@pytest.mark.parametrize("name", [*FILES, "inner/file"])
def test_a_changed_or_missing_file_is_named(folder, name):
    old = (folder / name).read_bytes()
    (folder / name).write_bytes(old[:-1] + bytes([old[-1] ^ 1]))
    assert fault(folder) == (
        f"{name}: it was damaged or changed after it was saved: its SHA-256 is not that in "
        f"{DIGESTS}; delete {DIGESTS} if the change was intended"
    )
    (folder / name).unlink()
    assert fault(folder) == f"{name}: it is missing, but {DIGESTS} lists it"


def test_states_are_read_only_to_resume(folder):
    (folder / "optimizer.pt").unlink()
    check_digests(folder)
    assert fault(folder).startswith("optimizer.pt: it is missing")


@pytest.mark.parametrize("name", ["adapter_config.json", "model.safetensors.index.json"])
def test_what_changes_the_model_may_not_be_added(folder, name):
    (folder / "notes.txt").write_text("mine")
    check_digests(folder, whole=True)
    (folder / name).write_text("{}")
    assert fault(folder) == (
        f"{name}: it does not belong to the model, as {DIGESTS} does not list it; delete "
        f"{DIGESTS} if it was added on purpose"
    )


def test_a_folder_of_another_program_has_no_digests(folder):
    (folder / DIGESTS).unlink()
    (folder / "config.json").write_text("other")
    check_digests(folder, whole=True)


@pytest.mark.parametrize(
    "line", ["", "abc  config.json", f"{'0' * 64}  /dev/zero", f"{'0' * 64}  ../config.json"]
)
def test_digests_that_are_none(folder, line):
    (folder / DIGESTS).write_text(f"{line}\n")
    assert fault(folder) == (
        f"{DIGESTS}, line 1: it must be a SHA-256, two spaces and the name of a file"
    )
    (folder / DIGESTS).write_bytes(b"")
    assert fault(folder) == f"{DIGESTS}: it is empty"
    (folder / DIGESTS).write_bytes(b"\xff")
    assert fault(folder).startswith(f"{DIGESTS}: cannot be read ('utf-8' codec")
