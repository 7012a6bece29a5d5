"""What holds for every task, and datasets of rows."""

import dataclasses
from typing import get_args

import docstring_parser
import pytest

from freerun.costs import CostName
from freerun.data import FactorCodec, MissingExtraError
from freerun.data import folders as hub
from freerun.metrics import METRICS
from freerun.models.settings import RecurrentSettings
from freerun.tasks import TASKS, Digits, load_data
from freerun.training import TrainingSettings


def test_tasks_are_known_by_their_names():
    own = ["digits", "spelling", "arithmetic", "ocr", "tagging", "translation"]
    assert list(TASKS) == [*own, "pairs", "text", "image_to_text", "speech_to_text"]
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_cost_of_a_task_is_known(task):
    assert task.cost in get_args(CostName)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_setting_is_documented(task):
    documented = {p.arg_name: p.description for p in docstring_parser.parse(task.__doc__).params}
    names = [field.name for field in dataclasses.fields(task)]
    # Fields of a shared base class come first, wherever they are described.
    assert sorted(documented) == sorted({*names} - {"extra_metrics", "headline"})
    assert all(documented.values())
    assert "\n" not in task.summary


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_metrics_of_a_task_are_known(task):
    assert set(task.metrics) <= set(METRICS)
    assert METRICS[task.metrics[0]].greater_is_better is not None


def test_the_recipe_of_a_task_makes_a_policy():
    free = load_data(Digits(train_size=4, dev_size=1, test_size=1)).codec
    fixed = FactorCodec.learn([{"tokens": ["a"], "tags": ["O"]}])
    for task in TASKS.values():
        codec = fixed if task.recipe["model"].get("attention") == "aligned" else free
        assert RecurrentSettings(**task.recipe["model"]).build(codec).vocabulary == codec.target
        assert TrainingSettings(**{"updates": 1, **task.recipe["training"]}).updates > 0


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
    with pytest.raises(ValueError, match="no file of rows is in it") as caught:
        hub.load_splits(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}: no file of rows is in it; they end in .jsonl")


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
    assert str(caught.value) == message + "pip install 'freerun[datasets]'"
