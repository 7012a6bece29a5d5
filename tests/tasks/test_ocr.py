"""Handwritten words, read from letter.data and from datasets."""

import json

import pytest
import torch

from freerun.data.letters import LETTERS
from freerun.metrics import find_position_errors, score, score_majority_guess
from freerun.tasks import Ocr, load_data


def rows(*words, folds=None):
    """letter.data of words, each letter with the bits of its code and of its number as pixels."""
    lines, number = [], 1
    for index, word in enumerate(words):
        fold = folds[index] if folds else index % 2
        for position, letter in enumerate(word, 1):
            following = number + 1 if position < len(word) else -1
            bits = f"{ord(letter):08b}{number:016b}".ljust(128, "0")
            lines.append([number, letter, following, index + 1, position, fold, *bits])
            number += 1
    return lines


def text(lines, end="\n"):
    return "".join("\t".join(map(str, line)) + end for line in lines)


@pytest.fixture
def codec(write):
    """The codec of words of one letter each."""
    return load_data(Ocr(write(text(rows(*"abcdefghijkl"))))).codec


WORDS = ["cat", "dog", "ox", "bird", "cow", "hen"]


@pytest.mark.parametrize("end", ["\n", "\t\n", "\r\n"])
@pytest.mark.parametrize("name", ["letter.data", "letter.data.gz"])
def test_words_are_letters_and_pixels(write, codec, end, name):
    path = write(text(rows("cat", "ox"), end), name)
    examples = codec.encode(Ocr(path).read_examples(path))
    assert len(examples) == 2
    batch = examples.batch([1, 0])
    assert batch.source.values.shape == (2, 3, 128)
    assert batch.source.mask.tolist() == [[True, True, False], [True, True, True]]
    assert torch.equal(batch.mask, batch.source.mask)
    assert batch.target.tolist() == [[14, 23, 27], [2, 0, 19]]
    assert list(examples.references) == [[2, 0, 19], [14, 23]]
    bits = f"{ord('o'):08b}{4:016b}".ljust(128, "0")
    assert batch.source.values[0, 0].tolist() == [float(bit) for bit in bits]
    assert not batch.source.values[0, 2].any()


def test_the_fold_is_tested_on_and_dev_is_a_tenth_of_the_others(write):
    words = [a + b for a in "abcdefghij" for b in "klmno"]
    folds = [i % 5 for i in range(50)]
    data = load_data(Ocr(write(text(rows(*words, folds=folds))), fold=3))
    assert (len(data.train), len(data.dev), len(data.test)) == (36, 4, 10)
    assert [data.codec.write(row, []) for row in data.test.references] == words[3::5]
    train, dev = (
        [data.codec.write(row, []) for row in part.references] for part in (data.train, data.dev)
    )
    assert sorted(train + dev) == sorted(w for i, w in enumerate(words) if i % 5 != 3)
    assert data.notes == [
        "test is fold 3; dev is a tenth of the others, drawn by seed 0",
        "train 36, dev 4, test 10 words",
        "0 test words have the same pixels as a word of train or dev",
        "0 of 10 test words have the letters of a word of train",
    ]


def test_the_split_is_fixed_by_its_seed(write):
    path = write(text(rows(*[a + b for a in "abcdefghij" for b in "klmno"])))
    one, again, other = (list(load_data(Ocr(path, seed=seed)).dev.references) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_equal_words_stay_on_one_side_of_dev(write):
    lines = rows("ab", "cd", folds=[0, 1])
    for copy in range(1, 20):
        for line in rows("cd" if copy % 2 else "ef", folds=[1]):
            bits = f"{ord(line[1]):08b}".ljust(128, "0")
            number = 100 * copy + line[4]
            following = -1 if line[2] == -1 else number + 1
            lines.append([number, line[1], following, 10 + copy, *line[4:6], *bits])
    data = load_data(Ocr(write(text(lines))))
    sides = [
        {part.batch([i]).source.values.numpy().tobytes() for i in range(len(part))}
        for part in (data.train, data.dev)
    ]
    assert not sides[0] & sides[1]
    assert len(data.train) + len(data.dev) == 20


def test_overlaps_of_folds_are_reported(write):
    lines = rows("ab", "ab", "cd", "ef", folds=[0, 1, 1, 1])
    for one, other in ((0, 2), (1, 3)):
        lines[other][6:] = lines[one][6:]
    data = load_data(Ocr(write(text(lines))))
    assert "1 test words have the same pixels as a word of train or dev" in data.notes


def test_metrics_and_majority_by_hand(write, given):
    task = Ocr(write(text(rows("aab", "abc", "aaa", "zaz", folds=[0, 1, 1, 1]))))
    data, metrics = load_data(task), task.get_metrics()
    assert score(metrics, data.codec, [[0, 0, 1], [5]], given([0, 1, 1], [5])) == {
        "hamming_error": 1 / 4,
        "exact_match": 1 / 2,
    }
    assert find_position_errors(metrics, data.codec, [[0, 0]], given([0, 1])) == [[False, True]]
    assert score_majority_guess(metrics, data) == {"hamming_error": 1 / 3, "exact_match": 0.0}


def test_words_to_predict_come_as_letter_data_or_as_images(codec):
    task = Ocr("letter.data")
    lines = text(rows("cat", "ox")).splitlines()
    unlabelled = [line.replace("\tc\t", "\t?\t") for line in lines]
    examples = task.read_sources(codec, unlabelled, "-")
    assert examples.lines == [tuple(unlabelled[:3]), tuple(unlabelled[3:])]
    images = [" ".join(line.split("\t")[6:]) for line in lines]
    again = task.read_sources(codec, [*images[:3], "", *images[3:], ""], "-")
    assert again.lines == [images[:3], images[3:]]
    for one in (examples, again):
        batch = one.batch([0, 1])
        assert batch.source.values.shape == (2, 3, 128)
        assert batch.target.shape == (2, 0)
        assert list(one.references) == [[], []]
    assert torch.equal(examples.batch([0, 1]).source.values, again.batch([0, 1]).source.values)
    assert codec.write([2, 0, 19], images[:3]) == "cat"


def broken(row, column, value):
    lines = rows("cat", "ox")
    lines[row][column] = value
    return text(lines)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (broken(1, 1, "A"), ", line 2: the letter is 'A'; it must be one of {letters}"),
        (broken(1, 1, "ab"), ", line 2: the letter is 'ab'; it must be one of {letters}"),
        (broken(1, 1, ""), ", line 2: the letter is ''; it must be one of {letters}"),
        (broken(1, 3, "x"), ", line 2: word_id is 'x'; it must be a whole number"),
        (broken(1, 9, "2"), ", line 2: a pixel is neither 0 nor 1"),
        (broken(1, 9, "0\t0"), ", line 2: 135 tab-separated columns; letter.data has 134"),
        ("one line\n", ", line 1: 1 tab-separated column; letter.data has 134"),
        (broken(1, 0, 7),
         ", line 2: the letter chain is broken: letter 2 should follow, but this is letter 7"),
        (broken(1, 3, 7),
         ", line 2: the letter chain is broken: word 1 should follow, but this is word 7"),
        (broken(2, 4, 4), ", line 3: the letter chain is broken: position 3 should follow, "
         "but this is position 4"),
        (broken(2, 5, 9),
         ", line 3: the letter chain is broken: fold 0 should follow, but this is fold 9"),
        (broken(1, 2, -1), ", line 3: the letter chain is broken: a word begins at position 3"),
        (text(rows("cat", "ox")[:-1]),
         ", line 4: the letter chain is broken: letter 5 should follow, but the file ends"),
    ],
)  # fmt: skip
def test_bad_lines_are_named(refuses, write, contents, message):
    path = write(contents)
    message = message.format(letters=LETTERS)
    refuses(path + message, Ocr(path).rows)
    refuses(path + message, Ocr("letter.data").read_examples, path)


def test_a_fold_that_is_not_there(refuses, write):
    path = write(text(rows(*WORDS)))
    refuses(f"{path}: no word is in fold 7; its folds are 0, 1", Ocr(path, fold=7).rows)


def test_too_few_words_to_split(refuses, write):
    path = write(text(rows("cat", "ox")))
    refuses(f"{path}: 1 different examples are too few to set some apart", Ocr(path).rows)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1 0"], "-, line 1: 2 numbers; a position has 128"),
        (["", " ".join(["a"] * 128)], "-, line 2: not all of it is numbers"),
        ([" ".join(["2"] * 128)], "-, line 1: a pixel lies outside 0 … 1"),
        ([" ".join(["nan"] * 128)], "-, line 1: a pixel lies outside 0 … 1"),
        (["", ""], "-: nothing to read"),
    ],
)
def test_bad_images_to_predict_from_are_named(refuses, codec, lines, message):
    refuses(message, Ocr("letter.data").read_sources, codec, lines, "-")


def dataset(write, name, words):
    lines = [
        json.dumps({"word": word, "pixels": [[ord(letter) % 2, i / 64] * 64 for letter in word]})
        for i, word in enumerate(words)
    ]
    return write("\n".join(lines), f"words/{name}.jsonl")


def test_words_of_a_dataset(write, tmp_path, local_datasets):
    dataset(write, "train", [a + b + c for a in "ac" for b in "bd" for c in "klmno"])
    dataset(write, "test", ["cat"])
    data = load_data(Ocr(str(tmp_path / "words")))
    assert (len(data.train), len(data.dev), len(data.test)) == (18, 2, 1)
    assert data.test.batch([0]).source.values[0, :, 0].tolist() == [1, 1, 0]
    assert data.notes[0] == "dev is a tenth of train, drawn by seed 0"


def test_a_dataset_has_no_folds(refuses, tmp_path, local_datasets):
    message = f"{tmp_path}: a dataset has splits, no folds; leave fold out"
    refuses(message, Ocr(str(tmp_path), fold=1).rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"word": "a"}, ": no column pixels; it has word"),
        ({"word": "A", "pixels": [[0] * 128]}, ", line 1: the letter 'A' is not one of {letters}"),
        ({"word": "", "pixels": [[0] * 128]}, ", line 1: the word is empty"),
        ({"word": "ab", "pixels": [[0] * 128]},
         ", line 1: pixels of shape [1, 128]; a word of 2 letters has [2, 128]"),
        ({"word": "ab", "pixels": [[0] * 128, [0]]},
         ", line 1: the pixels are not rows of 128 numbers"),
        ({"word": "a", "pixels": [[2] * 128]}, ", line 1: a pixel lies outside 0 … 1"),
    ],
)  # fmt: skip
def test_bad_rows_of_a_dataset_are_named(refuses, write, tmp_path, local_datasets, row, message):
    write(json.dumps(row), "words/train.jsonl")
    folder = str(tmp_path / "words")
    message = f"{folder}/train.jsonl" + message.format(letters=LETTERS)
    refuses(message, Ocr(folder).rows)


def test_the_real_file(real):
    task = Ocr(real("ocr/letter.data.gz"))
    data = load_data(task)
    assert (len(data.train), len(data.dev), len(data.test)) == (5626, 625, 626)
    lengths = [len(row) for part in (data.train, data.dev, data.test) for row in part.references]
    assert sum(lengths) == 52_152
    assert (min(lengths), max(lengths)) == (3, 14)
    words = {
        data.codec.write(row, [])
        for part in (data.train, data.dev, data.test)
        for row in part.references
    }
    assert len(words) == 55
    assert 0.85 < score_majority_guess(task.get_metrics(), data)["hamming_error"] < 0.95
