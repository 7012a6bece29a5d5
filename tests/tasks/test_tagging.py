"""Tagging: splits, what models read and write, scores."""

import json
import zipfile

import pytest
import torch

from freerun.data.factor_codec import UNKNOWN
from freerun.metrics import score, score_majority_guess
from freerun.tasks import Tagging, load_data
from tests.helpers import raises

PLACES = ["Bonn", "Köln", "Ulm", "Rom", "Paris", "Kiel", "Jena", "Trier", "Genf", "Linz"]


def column_file(sentences):
    return "\n\n".join(
        "\n".join(f"{token}\t{tag}" for token, tag in sentence) for sentence in sentences
    )


def sentences(places, start="in"):
    return [[(start, "O"), (place, "B-LOC"), (".", "O")] for place in places]


@pytest.fixture
def folder(write, tmp_path):
    write(column_file(sentences(PLACES)), "data/train.txt")
    write(column_file(sentences(PLACES[:2], "aus")), "data/dev.txt")
    write(column_file(sentences([*PLACES[:1], "Oslo"])), "data/test.txt")
    return str(tmp_path / "data")


def test_splits_are_used_as_given_and_overlaps_reported(folder):
    data = load_data(Tagging(folder))
    assert (len(data.train), len(data.dev), len(data.test)) == (10, 2, 2)
    assert data.notes == [
        "1 of 2 sentences of test are also in train, 1 of them with the same tags",
        "0 of 2 sentences of test are also in dev, 0 of them with the same tags",
        "0 of 2 sentences of dev are also in train, 0 of them with the same tags",
        "train 10, dev 2, test 2 sentences",
    ]


def test_batches_hold_four_factors_and_tags_without_eos(folder):
    data = load_data(Tagging(folder, unknown=0.0))
    batch = data.train.batch([0, 1])
    assert batch.source.values.shape == (2, 3, 4)
    assert torch.equal(batch.mask, batch.source.mask)
    assert data.codec.target.eos is None
    assert data.codec.limit is None
    assert [data.codec.target.decode(row) for row in batch.target.tolist()] == [
        ["O", "B-LOC", "O"]
    ] * 2
    factors = torch.tensor(data.codec.factors)
    assert (batch.source.values < factors).all()
    # Of the words: padding, unknown, "in", ".", ten places.
    assert data.codec.factors[0] == 14
    seen = {int(i) for i in data.train.batch(range(10)).source.values[..., 0].unique()}
    assert seen == set(range(2, 14))


def test_words_unseen_in_training_are_unknown(folder):
    data = load_data(Tagging(folder))
    words = data.test.batch([0, 1]).source.values[:, :, 0]
    assert (words == UNKNOWN).tolist() == [[False, False, False], [False, True, False]]
    words = data.dev.batch([0]).source.values[0, :, 0]
    assert (words == UNKNOWN).tolist() == [True, False, False]


def test_words_that_come_once_are_dropped_in_training_only(folder):
    data = load_data(Tagging(folder, unknown=1.0))
    words = data.train.batch(range(10)).source.values[:, :, 0] == UNKNOWN
    assert words.tolist() == [[False, True, False]] * 10
    assert not (data.test.batch([0]).source.values == UNKNOWN).any()


def test_files_can_be_named_and_dev_is_then_a_tenth_of_train(folder):
    task = Tagging(train=f"{folder}/train.txt", test=f"{folder}/test.txt")
    data = load_data(task)
    assert (len(data.train), len(data.dev), len(data.test)) == (9, 1, 2)
    assert data.notes == [
        "1 of 2 sentences of test are also in train, 1 of them with the same tags",
        "dev is a tenth of train, drawn by seed 0",
        "train 9, dev 1, test 2 sentences",
    ]
    # The place of dev is no word of training.
    assert (data.dev.batch([0]).source.values[0, :, 0] == UNKNOWN).tolist() == [False, True, False]
    assert len(load_data(Tagging(**vars(task) | {"dev": f"{folder}/dev.txt"})).dev) == 2


def test_dev_shares_no_sentence_with_train(write):
    train = write(column_file(sentences(PLACES) * 3), "train.txt")
    data = load_data(Tagging(train=train, test=train, unknown=0.0))
    assert (len(data.train), len(data.dev)) == (27, 3)
    held = {tuple(map(tuple, row.tolist())) for row in data.dev.batch(range(3)).source.values}
    kept = {tuple(map(tuple, row.tolist())) for row in data.train.batch(range(27)).source.values}
    assert not held & kept


def test_an_archive_and_iob1(tmp_path):
    path = str(tmp_path / "data.zip")
    with zipfile.ZipFile(path, "w") as archive:
        text = column_file([[("New", "I-LOC"), ("York", "I-LOC")], [("Rome", "I-LOC")]])
        archive.writestr("train.conll", text)
        archive.writestr("testa.conll", text)
        archive.writestr("testb.conll", text)
    data = load_data(Tagging(path))
    assert data.codec.tags == ("B-LOC", "I-LOC")
    assert list(data.test.references) == [[0, 1], [0]]
    assert data.notes[-2] == "6 tags I- that begin an entity were read as B- (as IOB1 has them)"


def test_a_tag_unseen_in_training_is_never_right_and_noted(folder, write):
    write("in\tO\nRom\tB-PER\nUlm\tB-LOC\n", "data/test.txt")
    data = load_data(Tagging(folder))
    message = "line 2: the tag B-PER is unseen in training, which has B-LOC, O"
    assert data.notes[-1] == (
        "1 targets of 1 of test are never right, and their unknown symbols do not count in "
        f"teacher_forced_loss: {folder}/test.txt, {message}"
    )
    out, place = (data.codec.target.ids[tag] for tag in ("O", "B-LOC"))
    found = score(Tagging(folder).get_metrics(), data.codec, [[out, out, place]], data.test)
    # One chunk of two is found, and one cell of three is wrong.
    assert found == {"chunk_f1": pytest.approx(2 / 3), "hamming_error": 1 / 3, "exact_match": 0}


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_split_that_is_missing_is_named(refuses, folder, tmp_path, name):
    (tmp_path / "data" / f"{name}.txt").unlink()
    message = (
        f"{folder}: there is no {name} split; a file whose name holds the word {name}, "
        "or a dataset's split of that name, is needed"
    )
    refuses(message, Tagging(folder).rows)


def test_an_archive_of_nothing_has_no_train(refuses, tmp_path):
    path = str(tmp_path / "data.zip")
    zipfile.ZipFile(path, "w").close()
    message = (
        f"{path}: there is no train split; a file whose name holds the word train, "
        "or a dataset's split of that name, is needed"
    )
    refuses(message, Tagging(path).rows)


def test_one_file_is_no_data(refuses, write):
    path = write("no archive", "data.zip")
    refuses(f"{path}: broken zip archive (File is not a zip file)", Tagging(path).rows)
    path = write(column_file(sentences(PLACES)))
    message = f"{path}: one file; give a folder or a zip archive, or train= and test="
    refuses(message, Tagging(path).rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "x", "unknown": 2.0}, "unknown is 2.0; it must lie in 0 … 1"),
        (
            {"data": "x", "dev": "y"},
            "data is given together with train, dev or test; give one or the other",
        ),
        ({}, "tagging needs data, or train and test"),
        ({"train": "x"}, "tagging needs data, or train and test"),
    ],
)
def test_settings_that_contradict_are_refused(settings, message):
    with raises(ValueError, message):
        Tagging(**settings)


def test_sentences_to_tag_keep_their_lines(folder):
    task = Tagging(folder)
    codec = load_data(task).codec
    lines = ["in", "Bonn", "", "Oslo", "liegt"]
    examples = task.read_sources(codec, lines, "-")
    assert examples.lines == [("in", "Bonn"), ("Oslo", "liegt")]
    batch = examples.batch([0, 1])
    assert batch.source.values.shape == (2, 2, 4)
    assert batch.target.shape == (2, 0)
    assert codec.write([1, 0], examples.lines[0]) == "in\tO\nBonn\tB-LOC\n"
    assert codec.write([1, 0], ["in IN", "Bonn NE"]) == "in IN O\nBonn NE B-LOC\n"


@pytest.mark.parametrize("name", ["a.jsonl", "a.CSV", "a.json.gz"])
def test_sentences_to_tag_are_not_read_from_tables(refuses, folder, name):
    task = Tagging(folder)
    codec = load_data(task).codec
    message = (
        f"{name}: sentences to tag are read from a text file with one token per line, and a blank "
        "line after each"
    )
    refuses(message, task.read_sources, codec, ['{"tokens": ["a"]}'], name)
    for kept in ("a.tsv", "a.conll", "standard input"):
        assert len(task.read_sources(codec, ["in", "Bonn"], kept)) == 1


def test_other_files_to_evaluate_on(refuses, write, folder):
    task = Tagging(folder)
    codec = load_data(task).codec
    path = write("in\tO\nUlm\tB-LOC\n", "new.txt")
    examples = codec.encode(task.read_examples(path), path)
    assert list(examples.references) == [[1, 0]]
    path = write("in\tO\nUlm\tB-ORG\n", "new.txt")
    message = "line 2: the tag B-ORG is unseen in training, which has B-LOC, O"
    assert codec.encode(task.read_examples(path), path).unseen == [f"{path}, {message}"]


@pytest.fixture
def entities(write):
    """A task with the tags B-A, B-B, I-A, I-B, O."""
    text = "a\tB-A\nb\tI-A\nc\tO\nd\tB-B\ne\tI-B\nf\tO\ng\tO\n"
    path = write(text, "train.txt")
    return Tagging(train=path, dev=path, test=path)


@pytest.mark.parametrize(
    ("hypothesis", "f1", "hamming"),
    [
        ("B-A I-A O B-B I-B O O", 1.0, 0),
        ("O O O O O O O", 0.0, 4),
        # One of two entities found, nothing else: precision 1, recall 1/2.
        ("B-A I-A O O O O O", 2 / 3, 2),
        # An entity cut short is wrong: 1 of 2 found, 1 of 2 right.
        ("B-A I-A O B-B O O O", 1 / 2, 1),
        # An I- that continues nothing begins an entity, as conlleval has it.
        ("I-A I-A O B-B I-B O O", 1.0, 1),
        # Three found, of which two are right: precision 2/3, recall 1.
        ("B-A I-A O B-B I-B O B-A", 4 / 5, 1),
    ],
)
def test_f1_of_entities_by_hand(entities, hypothesis, f1, hamming):
    data = load_data(entities)
    output = data.codec.target.encode(hypothesis.split())
    assert score(entities.get_metrics(), data.codec, [output], data.test) == {
        "chunk_f1": pytest.approx(f1),
        "hamming_error": pytest.approx(hamming / 7),
        "exact_match": float(hamming == 0),
    }


def test_f1_counts_entities_of_all_sentences_together(entities, given):
    codec = load_data(entities).codec
    rows = [["B-A", "O"], ["B-A", "B-A"]]
    references = [codec.target.encode(row) for row in rows]
    outputs = [codec.target.encode(row) for row in (["O", "O"], rows[1])]
    # Precision 2/2, recall 2/3; the mean over sentences would be 1/2.
    found = score(entities.get_metrics(), codec, outputs, given(*references))
    assert found["chunk_f1"] == pytest.approx(4 / 5)


def test_majority_finds_no_entity(entities):
    assert score_majority_guess(entities.get_metrics(), load_data(entities)) == {
        "chunk_f1": 0.0,
        "hamming_error": pytest.approx(4 / 7),
        "exact_match": 0.0,
    }


def test_seqeval_is_asked_for(refuses, missing, entities):
    missing("seqeval")
    message = "the metric chunk_f1 needs seqeval, which is missing: pip install 'freerun[tagging]'"
    refuses(message, entities.get_metrics)


def rows(write, name, items):
    return write("\n".join(map(json.dumps, items)), f"rows/{name}.jsonl")


def as_rows(items, labels="ner_tags"):
    return [
        {"tokens": [token for token, _ in item], labels: [tag for _, tag in item]} for item in items
    ]


@pytest.mark.parametrize("labels", ["ner_tags", "tags", "labels", "chunk_tags"])
def test_a_dataset_of_text_tags(write, tmp_path, local_datasets, labels):
    rows(write, "train", as_rows(sentences(PLACES), labels))
    rows(write, "test", as_rows(sentences(PLACES[:3], "aus"), labels))
    data = load_data(Tagging(str(tmp_path / "rows")))
    assert (len(data.train), len(data.dev), len(data.test)) == (9, 1, 3)
    assert data.codec.tags == ("B-LOC", "O")


def test_a_dataset_of_numbered_tags_is_read_by_their_names(tmp_path, local_datasets):
    datasets = local_datasets
    names = datasets.ClassLabel(names=["O", "B-LOC"])
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(names),
        }
    )
    items = [
        {"tokens": [word for word, _ in item], "ner_tags": [int(tag != "O") for _, tag in item]}
        for item in sentences(PLACES)
    ]
    split = datasets.Dataset.from_list(items, features=features)
    folder = str(tmp_path / "saved")
    datasets.DatasetDict({"train": split, "validation": split, "test": split}).save_to_disk(folder)
    data = load_data(Tagging(folder))
    assert (len(data.train), len(data.dev), len(data.test)) == (10, 10, 10)
    assert data.codec.target.decode(data.test.references[0]) == ["O", "B-LOC", "O"]
    (tmp_path / "parquet").mkdir()
    for name in ("train", "test"):
        split.to_parquet(str(tmp_path / "parquet" / f"{name}.parquet"))
    again = load_data(Tagging(str(tmp_path / "parquet")))
    assert list(again.test.references) == list(data.test.references)


def test_the_column_of_labels_can_be_named(refuses, write, folder, tmp_path, local_datasets):
    items = [{**row, "other": row["ner_tags"][::-1]} for row in as_rows(sentences(PLACES))]
    items[0]["other"][0] = "B-X"
    rows(write, "train", items)
    rows(write, "test", items)
    data = load_data(Tagging(str(tmp_path / "rows"), label_column="other"))
    assert data.codec.tags == ("B-LOC", "B-X", "O")
    message = f"{tmp_path}/rows/train.jsonl: no column no; it has tokens, ner_tags, other"
    refuses(message, Tagging(str(tmp_path / "rows"), label_column="no").rows)
    message = f"{folder}: label_column is for datasets; these are files"
    refuses(message, Tagging(folder, label_column="other").rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": ["a"], "tags": ["O"]}, ": no column tokens; it has words, tags"),
        ({"tokens": ["a"]}, ": no column ner_tags or tags or labels or chunk_tags; it has tokens"),
        ({"tokens": [], "tags": []}, ", line 1: the sentence is empty"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, ", line 1: 2 tokens and 1 tags"),
        ({"tokens": ["a"], "tags": [1]},
         ", line 1: tags holds numbers without names; it must hold text"),
        ({"tokens": ["a"], "tags": ["NN"]},
         ", line 1, token 0: the tag 'NN' is not O, B-TYPE or I-TYPE"),
    ],
)  # fmt: skip
def test_bad_rows_of_a_dataset_are_named(refuses, write, tmp_path, local_datasets, row, message):
    rows(write, "train", [row])
    where = f"{tmp_path}/rows/train.jsonl"
    refuses(where + message, Tagging(str(tmp_path / "rows")).rows)


def test_german_entities(real):
    task = Tagging(real("ner-de/mobie.zip"))
    data = load_data(task)
    assert (len(data.train), len(data.dev), len(data.test)) == (4785, 1082, 1210)
    assert sum(map(len, data.train.references)) == 59_716
    assert "34 of 1210 sentences of test are also in train" in data.notes[0]
    assert "265 tags I-" in data.notes[3]
    metrics = task.get_metrics()
    assert score(metrics, data.codec, list(data.test.references), data.test)["chunk_f1"] == 1
    assert score_majority_guess(metrics, data)["chunk_f1"] == 0


def test_german_legal_entities(real):
    data = load_data(
        Tagging(train=real("ner-de/ler_dev.conll.gz"), test=real("ner-de/ler_test.conll.gz"))
    )
    assert (len(data.train), len(data.dev), len(data.test)) == (6_000, 666, 6_673)
    assert len({tag[2:] for tag in data.codec.tags if tag != "O"}) == 19
    assert data.notes[0] == (
        "891 of 6673 sentences of test are also in train, 890 of them with the same tags"
    )
