"""Reading and writing text files."""

import gzip
import zipfile

import pytest

from freerun.data import MissingExtraError
from freerun.data.files import (
    group_lines,
    list_archive,
    read_archive,
    read_bytes,
    read_lines,
)
from freerun.imports import import_extra


def read(path):
    return list(read_lines(path))


def test_lines_come_with_numbers_and_without_ends(write):
    path = write("one\r\n\ntwo\x85\u2028ß\nthree")
    assert read(path) == [(1, "one"), (2, ""), (3, "two\x85\u2028ß"), (4, "three")]


def test_a_final_line_break_makes_no_line(write):
    assert read(write("one\n")) == [(1, "one")]
    assert read(write("one\n\n")) == [(1, "one"), (2, "")]


def test_a_byte_order_mark_is_left_out(write):
    assert read(write("\ufeffone\n")) == [(1, "one")]


@pytest.mark.parametrize("name", ["data.txt", "data.txt.gz"])
def test_gzip_is_known_by_its_contents_not_its_name(write, name):
    assert read(write("one\ntwo\n", name)) == [(1, "one"), (2, "two")]
    assert read(write(gzip.compress(b"one\ntwo\n"), "plain")) == [(1, "one"), (2, "two")]


def test_a_missing_file_is_named(refuses, tmp_path):
    path = str(tmp_path / "none.txt")
    refuses(f"{path}: there is no such file", read, path)
    refuses(f"{path}: there is no such file", list_archive, path)


def test_a_folder_is_no_file(refuses, tmp_path):
    refuses(f"{tmp_path}: cannot be read (Is a directory)", read, str(tmp_path))


def test_a_device_is_no_file(refuses):
    refuses("/dev/zero: it is a device; name a file", read, "/dev/zero")


@pytest.mark.parametrize("contents", ["", " \n\n"])
@pytest.mark.parametrize("name", ["data.txt", "data.txt.gz"])
def test_an_empty_file_is_named(refuses, write, contents, name):
    path = write(contents, name)
    refuses(f"{path}: the file is empty", read, path)


def test_bytes_that_are_not_utf8_are_named_with_their_line(refuses, write):
    path = write("good\nMünchen\n".encode("latin-1"))
    refuses(
        f"{path}, line 2: byte 0xfc at column 2 is not UTF-8; save the file as UTF-8", read, path
    )


def test_truncated_gzip_is_named(refuses, write):
    path = write(gzip.compress(b"some text that is long enough" * 9)[:-12], "cut")
    message = "Compressed file ended before the end-of-stream marker was reached"
    refuses(f"{path}: broken gzip data ({message})", read_bytes, path)


def test_a_broken_archive_is_named(refuses, write):
    path = write("no archive", "data.zip")
    refuses(f"{path}: broken zip archive (File is not a zip file)", list_archive, path)


def test_an_archive_gives_its_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/train.txt", "text")
    path = str(tmp_path / "data.zip")
    assert list_archive(path) == ["folder/train.txt"]
    assert read_archive(path, "folder/train.txt".__eq__) == {"folder/train.txt": b"text"}


def test_blocks_stand_between_blank_lines():
    lines = [(1, ""), (2, "a"), (3, "b"), (4, " "), (5, ""), (6, "c")]
    found = group_lines(lines)
    assert [block.text for block in found] == [["a", "b"], ["c"]]
    assert found[1].lines == [(6, "c")]


def test_a_missing_extra_says_how_to_install_it():
    with pytest.raises(MissingExtraError) as caught:
        import_extra("no_such_library.part", "tagging", "the F1 of entities")
    message = "the F1 of entities needs no_such_library, which is missing: "
    assert str(caught.value) == message + "pip install 'freerun[tagging]'"
    assert isinstance(caught.value, ImportError)
