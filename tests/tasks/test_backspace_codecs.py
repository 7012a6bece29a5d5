"""Codecs with a backspace: what they write, what they keep, and those that have none."""

import json

import pytest

from freerun.data import DataError, TextCodec, add_backspace_token
from freerun.tasks import (
    ArithmeticCodec,
    DigitsCodec,
    OcrCodec,
    TaggingCodec,
    TranslationCodec,
)
from tests.codecs import character_codec, pairs
from tests.tasks.tiny_tokenizers import byte_tokenizer, piece_tokenizer, word_tokenizer

CODECS = [
    ArithmeticCodec(3, "+0123", "0123-"),
    TranslationCodec("words", True, True, 4, 0, 1, ("der", "hund"), ("the", "dog")),
    DigitsCodec(longest=6),
]
FIXED = [OcrCodec(), TaggingCodec(("O", "B-X"), (("a", "b"),), 0, 1)]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.task)
def test_a_codec_with_a_backspace_is_the_same_but_for_it(codec, tmp_path):
    found = codec.with_backspace()
    assert found.target == codec.target.with_backspace()
    assert found.with_backspace() is found
    assert (found.factors, found.features) == (codec.factors, codec.features)
    found.save_pretrained(str(tmp_path))
    assert type(codec).from_pretrained(str(tmp_path)) == found != codec


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.task)
def test_a_file_from_before_there_was_one_is_read(codec, tmp_path):
    codec.save_pretrained(str(tmp_path))
    path = tmp_path / "codec.json"
    contents = json.loads(path.read_text())
    assert contents.pop("backspace") is False
    path.write_text(json.dumps(contents))
    assert type(codec).from_pretrained(str(tmp_path)) == codec


@pytest.mark.parametrize("codec", FIXED, ids=lambda codec: codec.task)
def test_outputs_as_long_as_their_source_have_none(codec, tmp_path):
    message = "there is no backspace: outputs end with their source, not by a token"
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        codec.with_backspace()
    assert str(caught.value) == message
    codec.save_pretrained(str(tmp_path))
    path = tmp_path / "codec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"backspace": True}))
    with pytest.raises(DataError) as caught:
        type(codec).from_pretrained(str(tmp_path))
    assert str(caught.value) == f"{path}: {message}"


def test_examples_are_the_same_but_for_what_fills_targets():
    plain = character_codec("abc ")
    one, other = (
        codec.encode(pairs("abc", "a")).batch([0, 1]) for codec in (plain, plain.with_backspace())
    )
    assert one.source.values.tolist() == other.source.values.tolist()
    assert one.target[one.mask].tolist() == other.target[other.mask].tolist()
    assert one.target[~one.mask].unique().tolist() == [plain.target.pad]
    assert other.target[~other.mask].unique().tolist() == [plain.target.pad + 1]
    assert int(other.source.values.max()) < plain.factors[0]


@pytest.mark.parametrize("make", [word_tokenizer, piece_tokenizer, byte_tokenizer])
def test_a_tokenizer_has_one_more_special_token(make, tmp_path):
    tokenizer = make()
    codec = TextCodec(tokenizer)
    found = codec.with_backspace()
    assert found.target == codec.target.with_backspace()
    assert (found.target.backspace, len(found.tokenizer)) == (len(tokenizer), len(tokenizer) + 1)
    assert not hasattr(tokenizer, "backspace_token"), "it was to be left as it is"
    assert found.with_backspace() is found
    assert add_backspace_token(found.tokenizer) is found.tokenizer

    found.save_pretrained(str(tmp_path))
    again = TextCodec.from_pretrained(str(tmp_path))
    assert again.target == found.target
    assert again.tokenizer.backspace_token == "<backspace>"
    tokens = tokenizer.encode("yes no")
    assert again.tokenizer.encode("yes no") == tokens
    assert again.decode([*tokens, found.target.backspace]) == codec.decode(tokens)


def test_named_special_tokens_of_a_tokenizer_stay():
    tokenizer = word_tokenizer(extra_special_tokens={"image_token": "yes"})
    found = add_backspace_token(tokenizer)
    assert (found.image_token, found.backspace_token) == ("yes", "<backspace>")
    assert "backspace_token" not in type(found).SPECIAL_TOKENS_ATTRIBUTES


def test_rows_are_read_alike():
    rows = [{"prompt": "a b", "completion": "yes"}, {"prompt": "c", "completion": "no no"}]
    codec = TextCodec(word_tokenizer())
    one, other = (each.encode(rows).batch([0, 1]) for each in (codec, codec.with_backspace()))
    assert one.target.tolist() == other.target.tolist()
    assert one.source.values.tolist() == other.source.values.tolist()


def test_a_token_of_that_name_for_something_else():
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["<backspace>"])
    message = (
        "the tokenizer has a token <backspace> that is not its backspace_token; if it is, say so "
        "in tokenizer_config.json"
    )
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        TextCodec(tokenizer).with_backspace()
    assert str(caught.value) == message
