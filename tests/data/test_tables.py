"""Files of rows: what a file says is what is read, or an error names the line."""

import json
import zipfile

import pytest

from freerun.data import files
from freerun.data.folders import load_splits, read_splits
from freerun.data.tables import read_rows, read_table


def plain(path):
    return [dict(row) for row in read_rows(path)]


CELLS = ["2001-05-01", "007", "1e5", "NA", "null", "true", " x ", "", "a\x85b", "ß\u2028", "1,5"]


def test_cells_stay_text(write):
    rows = [{"prompt": cell, "completion": "x"} for cell in CELLS]
    quoted = "\r\n".join(f'"{cell}",x' for cell in CELLS)
    assert plain(write(f"\ufeffprompt,completion\r\n{quoted}\r\n", "rows.csv")) == rows
    tabs = "\n".join(f"{cell}\tx" for cell in CELLS)
    assert plain(write(f"prompt\tcompletion\n{tabs}", "rows.tsv")) == rows


def test_quotes_of_csv_are_those_of_rfc_4180_and_tsv_has_none(write):
    path = write('a,b\n"x, ""y""\r\nz",2\n\n3,it\'s "4"\n', "rows.csv")
    assert plain(path) == [{"a": 'x, "y"\r\nz', "b": "2"}, {"a": "3", "b": 'it\'s "4"'}]
    assert [row.place for row in read_rows(path)] == [f"{path}, line 2", f"{path}, line 5"]
    path = write('a\tb\n"x\ty"\n"3""\t4\n', "rows.tsv")
    assert plain(path) == [{"a": '"x', "b": 'y"'}, {"a": '"3""', "b": "4"}]


def test_a_cell_may_be_long(write):
    assert len(plain(write("a,b\n" + "x" * 300_000 + ",1\n", "rows.csv"))[0]["a"]) == 300_000


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.csv", "p,c\na, b,c\n", "line 2: 3 cells; the first line names 2 columns: p, c"),
        ("a.csv", "p,c\nx\n", "line 2: 1 cell; the first line names 2 columns: p, c"),
        ("a.tsv", "p\tc\nx\ty\tz\n", "line 2: 3 cells; the first line names 2 columns: p, c"),
        ("a.csv", "p,c,p\n1,2,3\n", "line 1: two columns are called 'p'"),
        ("a.csv", 'p,c\n1,2\n3,"x\ny\n', "line 3: broken CSV (unexpected end of data)"),
        ("a.csv", 'p,c\n"x"junk,2\n', "line 2: broken CSV (',' expected after '\"')"),
        ("a.csv", b"p,c\nx,\xff\n", "line 2: byte 0xff at column 3 is not UTF-8; save the file "
         "as UTF-8"),
        ("a.tsv", "p\tc\nx\ty\0\n", "line 2: there is a NUL at column 4; save the file as text, in "
         "UTF-8"),
        ("a.jsonl", b'{"p": "a"}\n{"p": "\xff"}\n', "line 2: byte 0xff at column 8 is not UTF-8; "
         "save the file as UTF-8"),
        ("a.jsonl", '{"p": "a"}\n\nnull\n', "line 3: null is not a JSON object; a row is one"),
        ("a.jsonl", '{"p": 1, "p": 2}\n', "line 1: broken JSON (the name 'p' comes twice in an "
         "object)"),
        ("a.jsonl", '{"p": NaN}\n', "line 1: broken JSON (NaN is not JSON)"),
        ("a.jsonl", '{"p": -Infinity}\n', "line 1: broken JSON (-Infinity is not JSON)"),
        ("a.jsonl", '{"p": "\\ud800"}\n', "line 1: a text has half of a surrogate pair (\\ud800 to "
         "\\udfff), which is not a character"),
        ("a.jsonl", '{"p": 1} {"p": 2}\n', "line 1: broken JSON (something follows the object)"),
        ("a.jsonl", "[" * 100_000, "line 1: broken JSON (it is nested too deeply)"),
        ("a.json", "null", "line 1: broken JSON (Expecting value)"),
        ("a.json", '[{"p": 1},\n null]', "line 2: null is not a JSON object; a row is one"),
        ("a.json", '[{"p": 1}\n {"p": 2}]', "line 2: broken JSON (a comma or ] must follow the "
         "object)"),
        ("a.json", '[{"p": 1},\n\n {"p": NaN}]', "line 3: broken JSON (NaN is not JSON)"),
        ("a.json", '[{"p": 1}] x', None),
        ("a.json", '[{"p": 1}', None),
        ("a.json", "{}{}", None),
        ("a.parquet", "PAR1", None),
        ("a.arrow", "ARROW1", None),
    ],
)  # fmt: skip
def test_files_that_are_wrong_are_named_with_their_line(write, name, contents, message):
    path = write(contents, name)
    with pytest.raises(ValueError, match="a") as caught:
        read_rows(path)
    assert str(caught.value).startswith(path)
    if message == "line 1: broken JSON (Expecting value)":
        message = "line 1: null is not a JSON object; a row is one"
    if message is not None:
        assert str(caught.value) == f"{path}, {message}"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("contents", ["", "\n \n"])
def test_empty_files(write, refuses, name, contents):
    path = write(contents, name)
    refuses(f"{path}: the file is empty", read_rows, path)


def test_values_of_json_are_what_they_are_there(write):
    row = {"a": "2001-05-01", "n": 1, "d": "\u0000", "l": [{"x": None, "é": True}], "e": "😀"}
    text = json.dumps(row)
    for name, contents in (
        ("a.jsonl", f"{text}\n\n{text}"),
        ("a.json", f"\ufeff[\n{text},\n{text}\n]\n"),
        ("b.json", f"{text}\n{text}\n"),
    ):
        assert plain(write(contents, name)) == [row, row]
    assert read_rows(write(f"[\n{text},\n\n{text}]", "a.json"))[1].number == 4


def test_a_file_that_changes_is_read_anew(write):
    import os

    path = write('{"a": 1}', "rows.jsonl")
    os.utime(path, (1, 1))
    assert plain(path) == [{"a": 1}]
    write('{"a": 2}', "rows.jsonl")
    os.utime(path, (1, 1))
    assert plain(path) == [{"a": 2}]


def test_class_labels_and_formats_of_saved_datasets(write, tmp_path, local_datasets):
    features = local_datasets.Features(
        {"tags": local_datasets.Sequence(local_datasets.ClassLabel(names=["O", "B-X"])),
         "n": local_datasets.Value("int64")}
    )  # fmt: skip
    rows = [{"tags": [0, 1], "n": 1}, {"tags": [1], "n": 2}]
    found = local_datasets.Dataset.from_list(rows, features=features)
    folder = str(tmp_path / "saved")
    found.with_format("torch").save_to_disk(folder)
    found.to_parquet(str(tmp_path / "rows.parquet"))
    path = str(tmp_path / "rows.parquet")
    packed = write((tmp_path / "rows.parquet").read_bytes(), "rows.parquet.gz")
    for table in (load_splits(folder)["train"], read_table(path), read_table(packed)):
        assert table.classes == {"tags": ["O", "B-X"]}
        assert table.rows == rows
        assert table.rows[1].place.endswith(", row 1")


def row_file(write, name, value):
    write(json.dumps({"text": value}) + "\n", name)


def test_files_of_a_folder(write, tmp_path, refuses):
    for name in ("train-00001-of-2", "train-00000-of-2", "validation", "notes"):
        row_file(write, f"rows/data/{name}.jsonl", name)
    write("configs:\n- data_files: /etc/passwd", "rows/README.md")
    row_file(write, "rows/test/any.jsonl", "test")
    folder = str(tmp_path / "rows")
    texts = {name: table.read_texts("text") for name, table in load_splits(folder).items()}
    assert texts == {
        "train": ["train-00000-of-2", "train-00001-of-2"],
        "dev": ["validation"],
        "test": ["test"],
    }
    row_file(write, "rows/train.jsonl", "other")
    message = (
        f"{folder}: both data/train-00000-of-2.jsonl and train.jsonl may be the train file; leave "
        "one of them"
    )
    refuses(message, load_splits, folder)


def test_one_file_without_a_word_is_train_and_a_subset_is_a_folder(write, tmp_path, refuses):
    row_file(write, "rows/de/all.jsonl", "x")
    folder = str(tmp_path / "rows")
    assert read_splits(folder, "de")["train"].read_texts("text") == ["x"]
    message = f"{folder}: there is no folder '../de' in it, its subset"
    refuses(message, read_splits, folder, "../de")


def test_nothing_outside_of_a_folder_is_read(write, tmp_path):
    row_file(write, "secret.jsonl", "x")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(ValueError, match=r"secret\.jsonl, outside of .*, and is not read"):
        load_splits(str(tmp_path / "rows"))
    write(json.dumps({"_data_files": [{"filename": "../secret.jsonl"}]}), "saved/state.json")
    with pytest.raises(ValueError, match=r"secret\.jsonl, outside of .*, and is not read"):
        load_splits(str(tmp_path / "saved"))


def test_local_files_need_no_network_and_no_datasets(write, tmp_path, missing):
    missing("datasets")
    row_file(write, "rows/train.jsonl", "x")
    assert load_splits(str(tmp_path / "rows"))["train"].read_texts("text") == ["x"]


def test_what_an_archive_holds_beside_is_left_alone(tmp_path, refuses, monkeypatch):
    monkeypatch.setattr(files, "SMALL", 1000)
    path = str(tmp_path / "data.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("./a//train.txt", "a O")
        archive.writestr("bomb", b"0" * 10_000_000)
    assert files.read_archive(path, "./a//train.txt".__eq__) == {"./a//train.txt": b"a O"}
    message = (
        f"{path}: bomb: its contents are more than 200 times as large as the file, and more than 0 "
        "MiB; decompress it yourself if that is right"
    )
    refuses(message, files.read_archive, path, "bomb".__eq__)


def test_arrow_adds_no_fields(tmp_path):
    """What has no value in one object, but in another, is absent there; a cell may be empty."""
    arrow = pytest.importorskip("pyarrow")
    rows = [
        {"tools": [{"name": "f", "with": {"city": "P"}}], "note": None},
        {"tools": [{"name": "g", "with": {"count": 1}}], "note": "n"},
    ]
    path = tmp_path / "rows.parquet"
    arrow.parquet.write_table(arrow.Table.from_pylist(rows), path)
    assert plain(str(path)) == rows


def test_a_name_with_eval_is_neither_dev_nor_test(write, tmp_path, refuses):
    for name in ("train", "eval"):
        write('{"text": "a"}', f"rows/{name}.jsonl")
    message = "eval.jsonl: the name says eval, which may be dev or test; rename the file"
    refuses(message, read_splits, str(tmp_path / "rows"))


def test_lines_that_end_in_a_carriage_return(write, refuses):
    path = write("prompt,completion\ra,b\r", "rows.csv")
    message = "broken CSV (a carriage return stands in a cell without quotes; lines end in \\n)"
    refuses(f"{path}, line 1: {message}", read_rows, path)
