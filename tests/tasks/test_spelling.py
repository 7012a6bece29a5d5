"""Misspelt text: normalising, windows, noise, splits."""

import dataclasses
import json
from collections import Counter

import pytest
import torch

from freerun.data.noise import Misspelling, SymbolNoise
from freerun.data.prose import SYMBOLS, cut_windows, normalize
from freerun.metrics import score_majority_guess
from freerun.tasks import Spelling, load_data
from tests.codecs import character_codec, pairs, source_texts
from tests.helpers import raises
from tests.tasks.tiny_tokenizers import byte_tokenizer

CODEC = character_codec(SYMBOLS)


def texts(examples):
    return [CODEC.write(row, []) for row in examples.references]


def prose(count):
    """Different windows of ten characters, in one line."""
    return "".join(f"w{number:08d}x" for number in range(count))


def test_there_are_43_symbols():
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 43


@pytest.mark.parametrize(
    ("text", "plain", "lost"),
    [
        ("Abc  d\r\n\te ", "abc d e", {}),
        ("“It’s” — Égalité…", '"it\'s" - egalite...', {}),
        ("a(b)_c; d!", "a b c d", {"(": 1, ")": 1, "_": 1, ";": 1, "!": 1}),
        ("a–b\u00a0c", "a-b c", {}),
        ("œ", "", {"œ": 1}),
        ("", "", {}),
    ],
)
def test_text_is_normalised(text, plain, lost):
    assert normalize(text, SYMBOLS) == (plain, Counter(lost))


def test_windows_follow_each_other_and_lose_nothing():
    assert cut_windows("abcdefgh", 3) == ["abc", "def", "gh"]
    assert cut_windows("abcdef", 3) == ["abc", "def"]


def test_targets_end_in_eos_and_are_the_clean_text(write):
    data = load_data(Spelling(write(prose(40)), noise=0.0))
    batch = data.train.batch([0, 1])
    assert torch.equal(batch.source.values, batch.target[:, :-1])
    assert batch.target[:, -1].tolist() == [43, 43]
    assert data.codec.target.eos == 43
    assert all(mask.all() for mask in (batch.mask, batch.source.mask))
    assert data.codec.factors == (data.codec.target.size,)
    assert data.codec.limit == 16


def test_shorter_windows_are_padded_and_not_misspelt():
    examples = CODEC.encode(pairs("abc", "abcdefghij"))
    noise = Spelling(noise=1.0).augment(CODEC, "train", examples)
    examples = dataclasses.replace(examples, augmentation=noise)
    batch = examples.batch([0, 1])
    assert batch.source.mask.tolist() == [[True] * 3 + [False] * 7, [True] * 10]
    assert batch.source.values[0, 3:].tolist() == [CODEC.target.pad] * 7
    assert batch.target[0].tolist() == [0, 1, 2, 43] + [CODEC.target.pad] * 7


def test_noise_is_of_the_rate_and_uniform():
    noise = SymbolNoise(rate=0.4, symbols=5, seed=0, stream="s", redrawn=True)
    values = torch.full((2_000, 50), 7)
    noisy = noise(values, torch.ones(2_000, 50, dtype=torch.bool), torch.arange(2_000), 0)
    shares = noisy.flatten().bincount() / noisy.numel()
    assert shares.tolist() == pytest.approx([0.08] * 5 + [0, 0, 0.6], abs=0.005)


def test_a_replacement_may_be_the_same_symbol():
    noise = SymbolNoise(rate=1.0, symbols=4, seed=0, stream="s", redrawn=True)
    values = torch.zeros(500, 20, dtype=torch.int64)
    noisy = noise(values, torch.ones(500, 20, dtype=torch.bool), torch.arange(500), 0)
    assert (noisy == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_noise_of_an_example_is_its_own(write):
    train = load_data(Spelling(write(prose(200)), noise=0.5)).train
    whole = train.batch(range(20), epoch=3).source.values
    assert torch.equal(train.batch([7, 3], epoch=3).source.values, whole[[7, 3]])


def test_noise_is_redrawn_every_epoch_in_training_only(write):
    data = load_data(Spelling(write(prose(400)), noise=0.5))
    for part, redrawn in ((data.train, True), (data.dev, False), (data.test, False)):
        one, other = (part.batch(range(10), epoch).source.values for epoch in (0, 1))
        assert torch.equal(one, other) is not redrawn
        assert torch.equal(part.batch(range(10)).source.values, one)


def test_noise_differs_between_splits_and_seeds(write):
    path = write(prose(400))
    sources = [
        Misspelling.from_texts(["abcdefghij"] * 50, SYMBOLS, SymbolNoise(0.3, 43, 0, split, False))
        for split in ("spelling dev", "spelling test")
    ]
    assert sources[0].texts(SYMBOLS) != sources[1].texts(SYMBOLS)
    one, two = (load_data(Spelling(path, seed=seed)).dev for seed in (0, 1))
    assert texts(one) != texts(two)


def test_equal_windows_stay_on_one_side_and_none_is_lost(write):
    pieces = cut_windows(prose(60), 10) * 3
    data = load_data(Spelling(write("".join(pieces))))
    sides = [set(texts(part)) for part in (data.train, data.dev, data.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    parts = (data.train, data.dev, data.test)
    assert Counter(text for part in parts for text in texts(part)) == Counter(pieces)
    assert (len(data.dev), len(data.test)) == (18, 18)


def test_sizes_are_honoured_and_noted(write):
    path = write(prose(100))
    data = load_data(Spelling(path, train_size=30, dev_size=5, test_size=7))
    assert (len(data.train), len(data.dev), len(data.test)) == (30, 5, 7)
    assert data.notes == [
        "train was cut from 88 windows to 30, drawn by seed",
        "train 30, dev 5, test 7 windows of 10 characters",
    ]


def test_what_was_replaced_is_noted(write):
    notes = Spelling(write(prose(30) + "(#(")).rows().notes
    assert notes[0] == (
        "3 characters outside the 43 symbols became spaces, of 300 in all; "
        "the commonest: '(' 2, '#' 1"
    )


def test_what_project_gutenberg_adds_is_left_out(write):
    book = (
        "licence\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n" + prose(30) + "\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK X ***\nlicence"
    )
    data = load_data(Spelling(write(book)))
    assert data.notes[0] == "the header and the license of Project Gutenberg were removed"
    parts = (data.train, data.dev, data.test)
    assert {text for part in parts for text in texts(part)} == set(cut_windows(prose(30), 10))


def test_a_book_of_markers_only_is_refused(refuses, write):
    path = write(
        "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK X ***\n"
    )
    message = "there is no text between the markers of Project Gutenberg"
    refuses(f"{path}: {message}", Spelling(path).rows)


def test_the_embedded_text_needs_nothing():
    data = load_data(Spelling())
    assert data.notes[0].startswith("the text is the help of Python 3.")
    assert len(data.train) > 20_000
    assert (len(data.dev), len(data.test)) == (2_000, 2_000)
    assert 0.7 < score_majority_guess(Spelling().get_metrics(), data)["character_error"] < 0.9
    assert sum(set(text) == {"-"} for text in texts(data.train)) < 10


def test_lines_to_correct():
    examples = Spelling().read_sources(CODEC, ["Hello", " (wor1d) "], "-")
    batch = examples.batch([0, 1])
    rows = zip(batch.source.values, batch.source.mask, strict=True)
    assert [CODEC.write(row[mask].tolist(), []) for row, mask in rows] == ["hello", "wor1d"]
    assert examples.lines == [["Hello"], [" (wor1d) "]]
    assert batch.target.shape == (2, 0)
    assert CODEC.write([7, 8, 43, 1], ["x"]) == "hi"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "-: nothing to read"),
        (["one", " "], "-, line 2: there is nothing to correct"),
        (
            ["one", "a b c d e f"],
            "-, line 2: 11 characters; the model reads at most 10, so break the line",
        ),
    ],
)
def test_lines_that_cannot_be_corrected(refuses, lines, message):
    refuses(message, Spelling().read_sources, CODEC, lines, "-")


def test_other_files_to_evaluate_on(refuses, write):
    path = write("Some words, and more of them.")
    examples = CODEC.encode(Spelling().read_examples(path), path)
    assert texts(examples) == ["some words", ", and more", " of them."]
    one, other = (examples.batch([0, 1, 2], epoch).source.values for epoch in (0, 1))
    assert torch.equal(one, other)
    path = write("((\n", "empty.txt")
    message = f"{path}: no text is left in the symbols {SYMBOLS!r}"
    refuses(message, Spelling().read_examples, path)


def test_files_without_text_are_refused(refuses, write, tmp_path):
    refuses(f"{tmp_path}/no.txt: there is no such file", Spelling(f"{tmp_path}/no.txt").rows)
    path = write("((\n")
    refuses(f"{path}: no text is left in the symbols {SYMBOLS!r}", Spelling(path).rows)
    path = write("a few words")
    refuses(f"{path}: 2 windows are too few to split", Spelling(path).rows)
    path = write(b"good\n\xff\n")
    message = "byte 0xff at column 1 is not UTF-8; save the file as UTF-8"
    refuses(f"{path}, line 2: {message}", Spelling(path).rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 1.5}, "noise is 1.5; it must lie in 0 … 1"),
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"train_size": 0}, "train_size is 0; it must be at least 1"),
        ({"dev_size": -1}, "dev_size is -1; it must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with raises(ValueError, message):
        Spelling(**settings)


def rows(write, name, texts):
    return write("\n".join(json.dumps({"text": text}) for text in texts), f"rows/{name}.jsonl")


def test_a_dataset_keeps_its_splits_and_reports_overlaps(write, tmp_path, local_datasets):
    rows(write, "train", [prose(30), None, "w00000000x"])
    rows(write, "validation", [prose(2) + "a new one!"])
    rows(write, "test", [prose(3)])
    data = load_data(Spelling(str(tmp_path / "rows"), test_size=2))
    assert (len(data.train), len(data.dev), len(data.test)) == (32, 3, 2)
    assert data.notes == [
        "1 characters outside the 43 symbols became spaces, of 29 in all; the commonest: '!' 1",
        "test was cut from 3 windows to 2, drawn by seed",
        "2 windows of dev are also in train",
        "2 windows of test are also in train",
        "train 32, dev 3, test 2 windows of 10 characters",
    ]


def test_a_dataset_without_splits_is_split(write, tmp_path, local_datasets):
    rows(write, "train", [prose(40)])
    data = load_data(Spelling(str(tmp_path / "rows")))
    assert (len(data.train), len(data.dev), len(data.test)) == (32, 4, 4)


def test_a_dataset_without_the_column(refuses, write, tmp_path, local_datasets):
    write('{"words": "a", "id": 1}', "rows/train.jsonl")
    folder = str(tmp_path / "rows")
    refuses(f"{folder}/train.jsonl: no column text; it has words, id", Spelling(folder).rows)


def test_a_novel(real):
    task = Spelling(real("text/2600-0_war_and_peace.txt.gz"))
    data = load_data(task)
    assert data.notes[0] == "the header and the license of Project Gutenberg were removed"
    assert len(data.train) > 300_000
    assert (len(data.dev), len(data.test)) == (2_000, 2_000)
    begun = [data.codec.write(row, []) for row in data.train.references[:3]]
    assert begun == ["an anonymo", "us volunte", "er, and da"]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_rows_are_the_examples_of_the_first_epoch(write, split):
    task = Spelling(write(prose(90)), noise=0.5, train_size=30)
    rows = task.rows()[split]
    for data in (load_data(task), load_data(task, tokenizer=byte_tokenizer())):
        examples = getattr(data, split)
        assert list(examples.texts) == [row["target"] for row in rows]
        normalize = data.codec.normalize
        assert source_texts(data.codec, examples) == [normalize(row["source"]) for row in rows]
    one, other = (examples.batch([0], epoch).source.values for epoch in (0, 1))
    assert torch.equal(one, other), "the tokens of a tokenizer are the same in every epoch"
