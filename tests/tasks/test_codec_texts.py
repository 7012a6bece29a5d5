"""Texts of outputs and sources, as they are shown beside costs."""

from freerun.data.parallel import Columns, Pair
from freerun.tasks import Digits, Tagging, TranslationCodec
from tests.codecs import character_codec, pairs


def sources(codec, examples):
    """The text of every source."""
    batch = examples.batch(range(len(examples)))
    rows = zip(batch.source.values, batch.source.mask, strict=True)
    return [codec.source_text(values[mask]) for values, mask in rows]


def test_characters():
    codec = character_codec("abcd ")
    assert sources(codec, codec.encode(pairs("ab", " c d "))) == ["ab", " c d "]
    assert codec.text([*codec.target.encode("a b"), codec.target.eos]) == "a b"


def test_images_are_no_text():
    data = Digits(train_size=4, dev_size=1, test_size=1).load()
    assert sources(data.codec, data.train) == [None] * 4
    assert data.codec.text(data.codec.target.encode("1 may 1000")) == "1 may 1000"


def test_words_to_tag_are_those_of_training(write):
    train = write("Bonn B-LOC\nliegt O\n\nin O\nBonn B-LOC\n", "train.txt")
    test = write("Köln B-LOC\nliegt O\n", "test.txt")
    data = Tagging(train=train, dev=test, test=test, unknown=0.0).load()
    assert sources(data.codec, data.train) == ["bonn liegt", "in bonn"]
    assert sources(data.codec, data.test) == ["<unk> liegt"]
    assert data.codec.text(data.codec.target.encode(["B-LOC", "O"])) == "B-LOC O"


def test_translation():
    pairs = [Pair("Tom kommt.", "Tom comes."), Pair("Tom kommt nicht.", "Tom does not come.")]
    settings = {"tokenised": False, "lower": False, "columns": Columns(0, 1)}
    words = TranslationCodec.learn(pairs, tokens="words", sizes=(3, 9), **settings)
    assert sources(words, words.examples(pairs)) == ["Tom kommt.", "Tom kommt <unk>."]
    pieces = TranslationCodec.learn(pairs, tokens="bpe", sizes=(260, 260), **settings)
    assert sources(pieces, pieces.examples(pairs)) == ["Tom kommt.", "Tom kommt nicht."]
