"""Tokens that are plausibly written in the place of others."""

import pytest

from freerun.data import TextCodec
from freerun.tasks import TASKS, Arithmetic, Digits, Spelling, load_data
from tests.tasks.tiny_tokenizers import byte_tokenizer, piece_tokenizer, word_tokenizer


def spelt(codec, mistakes):
    """The symbols of mistakes."""
    symbols = codec.target.symbols
    return {symbols[token]: {symbols[other] for other in mistakes[token]} for token in mistakes}


@pytest.mark.parametrize("backspace", [False, True])
def test_digits_of_answers_are_mistaken_for_each_other(backspace):
    task = Arithmetic(train_size=200, dev_size=5, test_size=5)
    codec = load_data(task).codec
    codec = codec.with_backspace() if backspace else codec
    found = spelt(codec, task.mistakes(codec.target))
    assert found == {digit: set("0123456789") - {digit} for digit in "0123456789"}


def test_digits_of_a_tokenizer_are_mistaken_for_each_other():
    task, codec = Arithmetic(), TextCodec(word_tokenizer())
    found = spelt(codec, task.mistakes(codec.target))
    assert found == {digit: set("0123456789") - {digit} for digit in "0123456789"}


def test_digits_behind_a_space_are_mistaken_for_such():
    codec = TextCodec(byte_tokenizer(size=400))
    found = spelt(codec, Arithmetic().mistakes(codec.target))
    assert found["7"] == set("012345689")
    spaced = {symbol for symbol in found if symbol.startswith("Ġ")}
    assert len(spaced) > 1
    assert all(found[symbol] == spaced - {symbol} for symbol in spaced)


def test_digits_of_sentence_pieces_are_told():
    codec = TextCodec(piece_tokenizer())
    found = spelt(codec, Arithmetic().mistakes(codec.target))
    assert all(symbol.strip("▁").isdigit() for symbol in found)
    assert all({s[0] == "▁" for s in found[symbol]} == {symbol[0] == "▁"} for symbol in found)


def test_a_tokenizer_without_digits_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"</s>": 0, "12": 1, "7": 2, "a": 3}, unk_token="a"))
    codec = TextCodec(PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>"))
    message = "no two tokens of the model are single digits; use noise_tokens=random"
    with pytest.raises(ValueError, match=f"^{message}$"):
        Arithmetic().mistakes(codec.target)


@pytest.mark.parametrize("task", [Spelling(), Digits()])
def test_other_tasks_name_no_mistakes(task):
    assert task.name in TASKS
    message = f"the task {task.name} names no plausible mistakes; use noise_tokens=random"
    with pytest.raises(ValueError, match=f"^{message}$"):
        task.mistakes(TextCodec(word_tokenizer()).target)
