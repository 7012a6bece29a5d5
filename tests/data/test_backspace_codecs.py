"""Codecs with a backspace: what they write, what they keep, and those that have none."""

import pytest

from freerun.data import TextCodec, add_backspace_token
from tests.helpers import raises
from tests.tasks.tiny_tokenizers import byte_tokenizer, piece_tokenizer, word_tokenizer


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
    with raises(ValueError, message):
        TextCodec(tokenizer).with_backspace()
