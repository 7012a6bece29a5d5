"""Codecs on disk, and what holds for every task."""

import dataclasses
from typing import get_args

import docstring_parser
import pytest

from freerun.costs import CostName
from freerun.data import MissingExtraError
from freerun.data import files as hub
from freerun.models import RecurrentConfig
from freerun.models.settings import RecurrentSettings
from freerun.tasks import (
    TASKS,
    ArithmeticCodec,
    DigitsCodec,
    OcrCodec,
    TaggingCodec,
    TranslationCodec,
    load_codec,
)
from freerun.training import TrainingSettings

BYTE = tuple("abcĠ")
CODECS = [
    DigitsCodec(longest=17),
    OcrCodec(),
    ArithmeticCodec(5, " +1?\u2028", "-1"),
    TaggingCodec(("B-LOC", "O"), (("köln", "\u2028"), ("köl",), ("öln",), ("Xx", "x")), 0, -1),
    TranslationCodec("words", False, True, 9, 1, 0, ("ü", "\u2028"), ("a", "￭.")),
    TranslationCodec("bpe", True, False, 9, "de", "en", BYTE, (*BYTE, "ab"), (), ("a b",)),
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.task)
def test_a_codec_comes_back_as_it_was_saved(tmp_path, codec):
    folder = str(tmp_path / "new" / "folder")
    codec.save_pretrained(folder)
    assert load_codec(folder) == codec
    assert type(codec).from_pretrained(folder) == codec
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["codec.json"]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.task)
def test_a_codec_describes_a_policy(codec):
    config = RecurrentConfig.of(
        codec.target, features=codec.features, factors=codec.factors, limit=codec.limit
    )
    assert config.vocabulary == codec.target
    assert (codec.features is None) != (not codec.factors)


def test_tasks_are_known_by_their_names():
    own = ["digits", "spelling", "arithmetic", "ocr", "tagging", "translation"]
    assert list(TASKS) == [*own, "pairs", "text"]
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_cost_of_a_task_is_known(task):
    assert task.cost in get_args(CostName)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_setting_is_documented(task):
    documented = {p.arg_name: p.description for p in docstring_parser.parse(task.__doc__).params}
    assert list(documented) == [field.name for field in dataclasses.fields(task)]
    assert all(documented.values())
    assert "\n" not in task.summary


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.task)
def test_the_recipe_of_a_task_makes_a_policy(codec):
    recipe = TASKS[codec.task].recipe
    assert RecurrentSettings(**recipe["model"]).build(codec).vocabulary == codec.target
    assert TrainingSettings(**recipe["training"]).updates > 0


@pytest.mark.parametrize(
    ("data", "dataset"),
    [
        ("conll2003", True),
        ("user/ocr-words_v1.2", True),
        ("letter.data", False),
        ("missing.txt.gz", False),
        ("./folder", False),
        ("/no/such/folder", False),
        ("a/b/c", False),
    ],
)
def test_an_id_is_told_from_a_file_that_is_missing(data, dataset):
    assert hub.is_dataset(data) is dataset


def test_folders_are_datasets_and_files_are_not(write, tmp_path):
    assert hub.is_dataset(str(tmp_path))
    assert not hub.is_dataset(write("text", "file"))


def test_a_dataset_that_is_nowhere_is_named(refuses, monkeypatch, local_datasets):
    def unreachable(name):
        raise ConnectionError(f"Couldn't reach {name!r} on the Hub")

    monkeypatch.setattr(local_datasets, "load_dataset", unreachable)
    message = "no/where: no file, no folder and no dataset that can be loaded"
    refuses(f"{message} (Couldn't reach 'no/where' on the Hub)", hub.load_splits, "no/where")


def test_a_folder_that_is_no_dataset_is_named(tmp_path, local_datasets):
    with pytest.raises(ValueError, match="cannot be loaded as a dataset") as caught:
        hub.load_splits(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}: cannot be loaded as a dataset (")


def test_a_dataset_without_train_is_named(refuses, write, tmp_path, local_datasets):
    write('{"text": "a"}', "rows/test.jsonl")
    folder = str(tmp_path / "rows")
    refuses(f"{folder}: no split is called train; it has test", hub.load_splits, folder)


def test_one_saved_split_is_train(tmp_path, local_datasets):
    folder = str(tmp_path / "saved")
    local_datasets.Dataset.from_list([{"text": "a"}]).save_to_disk(folder)
    assert list(hub.load_splits(folder)) == ["train"]


@pytest.mark.parametrize("name", ["validation", "dev", "valid", "val"])
def test_dev_has_several_names(tmp_path, local_datasets, name):
    split = local_datasets.Dataset.from_list([{"text": "a"}])
    folder = str(tmp_path / "saved")
    local_datasets.DatasetDict({"train": split, name: split}).save_to_disk(folder)
    assert list(hub.load_splits(folder)) == ["train", "dev"]


def test_datasets_are_asked_for(tmp_path, missing):
    missing("datasets")
    with pytest.raises(MissingExtraError) as caught:
        hub.load_splits("no/where")
    message = "reading no/where as a dataset needs datasets, which is missing: "
    assert str(caught.value) == message + "pip install freerun[datasets]"
