"""Files: one way out, and one way into JSON."""

import json
import math
import os
import stat
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest

from freerun import files
from freerun.data import DataError
from freerun.errors import CheckpointError, WriteError
from freerun.files import check_json, format_json, read_json, restore_nan, write
from tests.full import FULL, full


def test_writing_replaces_a_file_as_a_whole(tmp_path):
    path = tmp_path / "codec.json"
    write(path, "old")
    write(path, "new ß")
    assert path.read_text(encoding="utf-8") == "new ß"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "codec.json"
    write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write(path, "half of it, then \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_json_has_not_are_null():
    found = {"low": math.nan, "values": [1.5, math.inf, -math.inf], "rows": ((math.nan, "NaN"),)}
    text = format_json({**found, "path": Path("a"), "count": 2, "std": None})
    expected = {"low": None, "values": [1.5, None, None], "rows": [[None, "NaN"]], "path": "a"}
    assert json.loads(text, parse_constant=pytest.fail) == {**expected, "count": 2, "std": None}
    assert math.isnan(restore_nan([{"loss": None, "update": 2}])[0]["loss"])
    assert restore_nan({"update": 2}) == {"update": 2}


def test_a_full_disk_is_named_with_the_file(tmp_path):
    path = tmp_path / "results.json"
    write(path, "old")
    with full(), pytest.raises(WriteError) as caught:
        write(path, "new" * 100)
    assert str(caught.value) == f"{path}: {FULL}"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "nowhere" / "results.json"
    with pytest.raises(WriteError) as caught:
        write(path, "text")
    assert str(caught.value) == f"{path}: cannot be written (No such file or directory)"


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.json", tmp_path / "link.json"
    for before in (None, "old"):
        if before is not None:
            real.write_text(before)
        link.unlink(missing_ok=True)
        link.symlink_to("there/real.json")
        write(link, "new")
        assert link.is_symlink()
        assert real.read_text() == "new"
    assert [path.name for path in real.parent.iterdir()] == ["real.json"]


def test_all_names_of_a_file_stay_names_of_it(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("old")
    other.hardlink_to(one)
    write(one, "new")
    assert other.read_text() == "new"
    assert one.samefile(other)


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(WriteError, match="cannot be written"):
        write(tmp_path / "a", "text")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_the_mode_of_a_replaced_file_is_kept(tmp_path, mode):
    path = tmp_path / "figures.json"
    path.write_text("old")
    path.chmod(mode)
    write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    new = tmp_path / "new.json"
    previous = os.umask(0o027)
    try:
        write(new, "new")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_of_a_replaced_file_is_kept(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    os.chown(path, 1234, 4321)
    write(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)
    assert path.read_text() == "new"


def test_a_pipe_is_written_to_and_stays(tmp_path):
    path, found = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write(path, "text ß")
    reader.join(10)
    assert found == ["text ß".encode()]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_is_written_to():
    write("/dev/null", "text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(WriteError) as caught:
        write(tmp_path, "text")
    assert str(caught.value) == f"{tmp_path}: cannot be written (Is a directory)"


@pytest.mark.parametrize("link", [False, True])
def test_standard_output_is_appended_to_wherever_it_goes(tmp_path, link):
    path = "/dev/stdout"
    if link:
        path = tmp_path / "link"
        path.symlink_to("/dev/stdout")
    code = f"from freerun.files import write; print(1); write({str(path)!r}, '2\\n'); print(3)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"1\n2\n3\n"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(command, stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"1\n2\n3\n"


def test_what_is_no_json_object(tmp_path):
    path = tmp_path / "settings.json"
    for contents, message in (
        (b"{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (ch"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark; save it as UTF-8 without one"),
        (b"\xff{}", "not JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start"),
        (b"[]", "it must hold a JSON object"),
        (b'{"a":' * 60 + b"1" + b"}" * 60, "it is nested more than 50 levels deep"),
        (b"[" * 100_000, "it is nested more than 50 levels deep"),
        (b'{"a": 1' + b"0" * 5_000 + b"}", "not JSON (Exceeds the limit"),
    ):
        path.write_bytes(contents)
        with pytest.raises(CheckpointError) as caught:
            read_json(path)
        assert str(caught.value).startswith(f"{path}: {message}")
        with pytest.raises(DataError):
            read_json(path, DataError)
    path.unlink()
    os.mkfifo(path)
    for each in (path, tmp_path / "none.json"):
        with pytest.raises(CheckpointError) as caught:
            read_json(each)
        assert str(caught.value) == f"{each}: there is no such file; is {tmp_path} a checkpoint?"
    with pytest.raises(CheckpointError, match=r"nowhere: there is no such directory$"):
        read_json(tmp_path / "nowhere" / "a.json")
    with path.with_name("huge.json").open("wb") as file:
        file.truncate(1 << 29)
    with pytest.raises(CheckpointError, match=r"huge\.json: it is larger than 256 MiB"):
        read_json(path.with_name("huge.json"))


class Entry(TypedDict):
    name: str
    sizes: dict[str, int]


@dataclass
class Contents:
    entry: Entry
    share: float | None
    rows: list[dict[str, int | float]]
    rest: Any


RIGHT = {"entry": {"name": "a", "sizes": {"b": 1}}, "share": 1, "rows": [{"c": 0.5}], "rest": [[]]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": "1"}, 'f.share is "1"; it must be a number or null'),
        ({"share": True}, "f.share is true; it must be a number or null"),
        ({"rows": {}}, "f.rows is {}; it must be a list"),
        ({"rows": [{}, {"c": None}]}, "f.rows[1].c is null; it must be a whole number or a number"),
        ({"entry": []}, "f.entry is []; it must be an object"),
        ({"entry": {"name": "a"}}, "f.entry: the field 'sizes' is missing"),
        ({"entry": {**RIGHT["entry"], "more": 1}}, "f.entry: the field 'more' is unknown"),
        ({"entry": {"name": "a", "sizes": {"b": 1.5}}},
         "f.entry.sizes.b is 1.5; it must be a whole number"),
        ({"entry": {"name": 7 * [0], "sizes": {}}},
         "f.entry.name is [0, 0, 0, 0, 0, 0, 0]; it must be text"),
    ],
)  # fmt: skip
def test_the_wrong_type_is_named_with_its_place(changes, message):
    check_json(json.loads(json.dumps(RIGHT)), Contents, "f")
    with pytest.raises(CheckpointError) as caught:
        check_json({**RIGHT, **changes}, Contents, "f")
    assert str(caught.value) == message


def test_a_pipe_that_nobody_reads_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_SECONDS_FOR_READER", 0.2)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(WriteError) as caught:
        write(path, "text")
    assert caught.value.filename == str(path)
