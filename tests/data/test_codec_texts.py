"""Texts of outputs and sources, as they are shown beside costs."""

from freerun.tasks import Digits, Tagging, Translation, load_data
from tests.codecs import character_codec, pairs, source_texts


def test_characters():
    codec = character_codec("abcd ")
    assert source_texts(codec, codec.encode(pairs("ab", " c d "))) == ["ab", " c d "]
    assert codec.text([*codec.target.encode("a b"), codec.target.eos]) == "a b"


def test_images_are_no_text():
    data = load_data(Digits(train_size=4, dev_size=1, test_size=1))
    assert source_texts(data.codec, data.train) == [None] * 4
    assert data.codec.text(data.codec.target.encode("1 may 1000")) == "1 may 1000"


def test_words_to_tag_are_those_of_training(write):
    train = write("Bonn B-LOC\nliegt O\n\nin O\nBonn B-LOC\n", "train.txt")
    test = write("Köln B-LOC\nliegt O\n", "test.txt")
    data = load_data(Tagging(train=train, dev=test, test=test, unknown=0.0))
    assert source_texts(data.codec, data.train) == ["bonn liegt", "in bonn"]
    assert source_texts(data.codec, data.test) == ["<unk> liegt"]
    assert data.codec.text(data.codec.target.encode(["B-LOC", "O"])) == "B-LOC O"


def test_words_and_byte_pairs(write):
    pairs = "Tom comes.\tTom kommt.\nTom does not come.\tTom kommt nicht.\n" + "".join(
        f"It is {i}.\tEs ist {i}.\n" for i in range(20)
    )
    path = write(pairs, "pairs.tsv")
    settings = {"source_column": 1, "target_column": 0}
    words = load_data(Translation(path, source_tokens="words:3", **settings)).codec
    rows = [{"source": "Es ist 5.", "target": "It is 5."}]
    assert source_texts(words, words.encode(rows)) == ["Es ist <unk>."]
    pieces = load_data(Translation(path, source_tokens="bpe:260", **settings)).codec
    assert source_texts(pieces, pieces.encode(rows)) == ["Es ist 5."]
