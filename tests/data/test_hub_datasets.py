"""Datasets on the Hugging Face hub, as they stand in its cache: read as strictly as local files."""

import gzip
import os

import pytest

from freerun.data.folders import load_splits

REVISION = "0" * 40


@pytest.fixture
def publish(tmp_path, monkeypatch, local_datasets):
    """A function that puts a dataset into the cache of the hub, as `huggingface_hub` does."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def write(name, **files):
        folder = tmp_path / "hub" / f"datasets--{name.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(REVISION)
        (folder / "blobs").mkdir()
        for number, (path, contents) in enumerate(files.items()):
            blob = folder / "blobs" / str(number)
            blob.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
            link = folder / "snapshots" / REVISION / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        return folder / "snapshots" / REVISION

    return write


def read(name, subset=None):
    tables = load_splits(name, subset)
    return {split: [[*row.values()] for row in table.rows] for split, table in tables.items()}


def test_cells_and_strings_stay_text(publish):
    """None of these is a number, a date, a truth value or missing; quotes of TSV are text."""
    head, cells = "prompt,completion\n", [["001", "2001-05-01"], ["NA", "1e5"], ["TRUE", "null"]]
    rows = "".join(f"{one},{other}\n" for one, other in cells)
    publish("me/cells", **{"train.csv": head + rows, "test.csv.gz": gzip.compress(head.encode())})
    assert read("me/cells") == {"train": cells, "test": []}
    lines = '{"prompt": "day", "completion": "2001-05-01"}\n'
    publish("me/lines", **{"data/train-0.jsonl": lines, "data/train-1.jsonl": lines})
    assert read("me/lines") == {"train": [["day", "2001-05-01"]] * 2}
    publish("me/tabs", **{"train.tsv": 'prompt\tcompletion\n"a\tb\nc"\td\n'})
    assert read("me/tabs") == {"train": [['"a', "b"], ['c"', "d"]]}


def test_a_cell_too_many_is_named(publish, refuses):
    folder = publish("me/over", **{"train.csv": "prompt,completion\nhello, you,fine\n"})
    message = "line 2: 3 cells; the first line names 2 columns: prompt, completion"
    refuses(f"{folder}/train.csv, {message}", load_splits, "me/over")


def test_a_description_names_files_but_not_how_they_are_read(publish, refuses):
    def describe(path, **settings):
        lines = ["---", "configs:", "- config_name: one", f"  data_files: {path}"]
        return "\n".join([*lines, *(f"  {k}: '{v}'" for k, v in settings.items()), "---", ""])

    row = "prompt,completion\na,b\n"
    publish("me/named", **{"README.md": describe("x/rows.csv"), "x/rows.csv": row})
    assert read("me/named") == read("me/named", "one") == {"train": [["a", "b"]]}
    publish("me/semi", **{"README.md": describe("x.csv", sep=";"), "x.csv": row})
    message = "me/semi: it is to be read with sep=';', which is not done; name a folder with files "
    refuses(f"{message}that need no such setting", load_splits, "me/semi")
    folder = publish("me/out", **{"README.md": describe("../../../../own.csv"), "x.csv": row})
    (folder.parents[3] / "own.csv").write_text(row)
    with pytest.raises(ValueError, match=r"^me/out: its description names .*/own\.csv, which is "):
        load_splits("me/out")


def test_what_the_library_made_of_csv_is_not_taken_for_it(publish, tmp_path, local_datasets):
    """It is in the cache of `datasets`, but not in that of the hub."""
    cache = tmp_path / "cache" / "me___made" / "default" / "0.0.0" / REVISION
    made = local_datasets.Dataset.from_dict({"prompt": [1], "completion": ["b"]})
    for name, refused in [("csv", True), ("parquet", False)]:
        made.info.builder_name, made.info.config_name = name, "default"
        made.info.dataset_name, made.info.version = "made", "0.0.0"
        sizes = local_datasets.SplitInfo("train", num_examples=1)
        made.info.splits = local_datasets.SplitDict({"train": sizes})
        cache.mkdir(parents=True, exist_ok=True)
        made.info.write_to_directory(str(cache))
        with local_datasets.arrow_writer.ArrowWriter(path=str(cache / "made-train.arrow")) as file:
            file.write({"prompt": 1, "completion": "b"})
            file.finalize()
        if refused:
            with pytest.raises(ValueError, match=r"only what the library datasets made of its CSV"):
                load_splits("me/made")
        else:
            assert read("me/made") == {"train": [[1, "b"]]}
