"""Parallel text: files, archives, datasets, and what is wrong with them."""

import json
import zipfile

import pytest

from freerun.data.folders import load_splits
from freerun.data.parallel import Columns, Pair, extract_pairs, read_aligned, read_pairs

FIRST_TWO = Columns(0, 1)
NAMED = Columns("de", "en")


def test_a_table_is_read_by_the_numbers_of_its_columns(write):
    path = write('Hi.\tHallo!\tCC-BY\nA "quote\t„Zitat“\tCC0\r\n')
    assert read_pairs(path, Columns(1, 0)) == [("Hallo!", "Hi."), ("„Zitat“", 'A "quote')]
    assert read_pairs(path, FIRST_TWO)[0] == Pair(source="Hi.", target="Hallo!")


def test_a_table_is_read_by_the_names_of_its_columns(write):
    path = write("id\ten\tde\n7\tHi.\tHallo!\n", "pairs.tsv.gz")
    assert read_pairs(path, NAMED) == [("Hallo!", "Hi.")]


def test_an_archive_holds_one_text_file(write, refuses, tmp_path):
    path = str(tmp_path / "deu-eng.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_about.txt", "read me")
        archive.writestr("__MACOSX/deu.txt", "x")
        archive.writestr("inner/deu.txt", "Hi.\tHallo!\nAh.\t \n")
        archive.writestr("picture.png", "x")
    message = f"{path}/inner/deu.txt, line 2: the target, in column 1, is empty"
    refuses(message, read_pairs, path, FIRST_TWO)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.tsv", "Hi.\tHallo!\n")
    message = f"{path}: one text file is needed in it; there is inner/deu.txt, more.tsv"
    refuses(message, read_pairs, path, FIRST_TWO)


def test_an_archive_is_read(write, tmp_path):
    path = str(tmp_path / "pairs.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pairs.tsv", "Hi.\tHallo!\n")
    assert read_pairs(path, FIRST_TWO) == [("Hi.", "Hallo!")]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a\tb\nc", FIRST_TWO,
         ", line 2: 1 column between tabs; the target is in column 1, counted from 0"),
        ("a\tb", Columns(0, 2),
         ", line 1: 2 columns between tabs; the target is in column 2, counted from 0"),
        ("a\tb\n\t b", FIRST_TWO, ", line 2: the source, in column 0, is empty"),
        ("a\tb\n\n", FIRST_TWO, ", line 2: the source, in column 0, is empty"),
        ("nl\ten\na\tb", NAMED, ", line 1: no column 'de'; it has nl, en"),
        ("de\ten\n", NAMED, ": nothing follows the names of the columns"),
        ("", FIRST_TWO, ": the file is empty"),
    ],
)  # fmt: skip
def test_a_table_that_is_wrong_is_named_with_its_line(write, refuses, text, columns, message):
    path = write(text)
    refuses(path + message, read_pairs, path, columns)


def test_a_table_that_is_missing_is_named(refuses):
    for path in ("no.tsv", "no.zip"):
        refuses(f"{path}: there is no such file", read_pairs, path, FIRST_TWO)


def test_two_files_are_read_line_by_line(write):
    source, target = write("Hallo!\nAch.\n", "a.de.gz"), write("Hi.\nOh.", "a.en")
    assert read_aligned(source, target) == [("Hallo!", "Hi."), ("Ach.", "Oh.")]


def test_two_files_that_do_not_fit_are_named(write, refuses):
    source, target = write("Hallo!\nAch.\n", "a.de"), write("Hi.\n", "a.en")
    message = f"{source} has 2 lines, and {target} has 1; each line of one must "
    refuses(message + "translate the same line of the other", read_aligned, source, target)
    target = write("Hi.\n \n", "b.en")
    message = f"{target}, line 2: there is no text; leave the line out of both files"
    refuses(message, read_aligned, source, target)
    refuses("no.de: there is no such file", read_aligned, "no.de", target)


# Datasets


@pytest.fixture
def rows(write, tmp_path, local_datasets):
    """A function that reads rows as the split of a dataset, by these columns."""

    def read(items, columns):
        write("\n".join(map(json.dumps, items)), "rows/train.jsonl")
        return extract_pairs(load_splits(str(tmp_path / "rows"))["train"], columns)

    return read


def test_languages_of_a_column_called_translation(rows):
    items = [{"id": 1, "translation": {"de": "Hallo!", "en": "Hi."}}]
    assert rows(items, NAMED) == [("Hallo!", "Hi.")]
    assert rows(items, Columns("en", "de")) == [("Hi.", "Hallo!")]
    assert rows(items, FIRST_TWO) == [("Hallo!", "Hi.")]


def test_two_columns(rows):
    items = [{"id": "1", "de": "Hallo!", "en": "Hi."}]
    assert rows(items, NAMED) == [("Hallo!", "Hi.")]
    assert rows(items, Columns(2, 1)) == [("Hi.", "Hallo!")]


def test_the_feature_translation(local_datasets, tmp_path):
    features = local_datasets.Features({"translation": local_datasets.Translation(["de", "en"])})
    items = [{"translation": {"de": "Hallo!", "en": "Hi."}}]
    split = local_datasets.Dataset.from_list(items, features=features)
    split.save_to_disk(str(tmp_path / "saved"))
    table = load_splits(str(tmp_path / "saved"))["train"]
    assert extract_pairs(table, Columns(1, 0)) == [("Hi.", "Hallo!")]


@pytest.mark.parametrize(
    ("item", "columns", "message"),
    [
        ({"translation": {"de": "a", "en": "b"}}, Columns("de", "fr"),
         ": no column 'fr'; it has de, en"),
        ({"de": "a", "en": "b"}, Columns(0, 2),
         ": no column 2; there are 2, counted from 0"),
        ({"de": "a", "en": " "}, NAMED, ", line 1: the target is ' '; it must be text"),
        ({"de": None, "en": "b"}, NAMED, ", line 1: the source is None; it must be text"),
        ({"de": 5, "en": "b"}, NAMED, ", line 1: the source is 5; it must be text"),
    ],
)  # fmt: skip
def test_rows_that_are_wrong_are_named(rows, refuses, tmp_path, item, columns, message):
    refuses(f"{tmp_path}/rows/train.jsonl{message}", rows, [item], columns)


def test_a_table_with_a_tab_too_many_is_named_with_its_line(write, refuses):
    path = write("Hi.\tHallo!\nYes.\tJa.\tNein.\n")
    message = f"{path}, line 2: 3 columns between tabs; line 1 has 2"
    refuses(message, read_pairs, path, FIRST_TWO)
