"""Vocabularies: what their tokens are, and those that cannot be."""

import time

import pytest

from freerun.vocabulary import Vocabulary
from tests.helpers import raises


def test_eos_is_an_action_and_bos_and_pad_are_not():
    words = Vocabulary.build(["a", "b"], eos=True)
    assert words == Vocabulary(("a", "b", "<eos>"), bos=3, pad=4, eos=2)
    assert (words.actions, words.size) == (3, 5)
    assert words.ids == {"a": 0, "b": 1, "<eos>": 2}


def test_fixed_length_targets_have_no_eos():
    words = Vocabulary.build(iter("ab"), eos=False)
    assert words == Vocabulary(("a", "b"), bos=2, pad=3, eos=None)
    assert (words.actions, words.size) == (2, 4)


def test_unknown_stands_for_what_is_not_there():
    words = Vocabulary.build(["a", "b"], eos=True, unknown=True)
    assert words == Vocabulary(("<unk>", "a", "b", "<eos>"), bos=4, pad=5, eos=3, unknown=0)
    assert words.encode(["b", "c", "a", "<unk>", "d"]) == [2, 0, 1, 0, 0]
    assert words.decode([2, 0, 3, 1]) == ["b", "<unk>"]
    assert Vocabulary.build("a", eos=False).unknown is None
    with pytest.raises(ValueError, match=r"^the symbol '<unk>' comes more than once"):
        Vocabulary.build(["<unk>"], eos=False, unknown=True)


def test_pad_may_equal_eos():
    words = Vocabulary(("a", "b", "."), bos=2, pad=2, eos=2)
    assert (words.actions, words.size) == (3, 3)


def test_text_and_back():
    words = Vocabulary.build("abc", eos=True)
    assert words.encode("cab") == [2, 0, 1]
    assert words.decode([2, 0, 1, 3, 0, 5]) == ["c", "a", "b"]
    assert words.decode([2, 0, 1]) == ["c", "a", "b"]
    assert Vocabulary.build("abc", eos=False).decode([2, 0, 0]) == ["c", "a", "a"]
    with pytest.raises(KeyError, match="'d'"):
        words.encode("ad")


def test_a_symbol_comes_once():
    message = r"^the symbol 'b' comes more than once in the vocabulary$"
    with pytest.raises(ValueError, match=message):
        Vocabulary.build("cbab", eos=False)
    with pytest.raises(ValueError, match=r"^the symbol '<eos>' comes more than once"):
        Vocabulary.build(["a", "<eos>"], eos=True)


def test_a_large_vocabulary_is_made_at_once():
    start = time.perf_counter()
    assert Vocabulary.build(map(str, range(50_000)), eos=True).actions == 50_001
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("special", "message"),
    [
        ({"eos": 2}, "eos is 2; it must be an action, 0 to 1"),
        ({"eos": -1}, "eos is -1; it must be an action, 0 to 1"),
        ({"backspace": 5}, "backspace is 5; it must be an action, 0 to 1"),
        ({"unknown": 2}, "unknown is 2; it must be an action, 0 to 1"),
        ({"unknown": -1}, "unknown is -1; it must be an action, 0 to 1"),
        ({"bos": -1}, "bos is -1; a token is at least 0"),
        ({"pad": -100}, "pad is -100; a token is at least 0"),
    ],
)
def test_special_tokens_are_tokens(special, message):
    with raises(ValueError, message):
        Vocabulary(("a", "b"), **{"bos": 2, "pad": 3, **special})


def test_a_backspace_is_the_last_action():
    words = Vocabulary.build(["a", "b"], eos=True, unknown=True)
    found = words.with_backspace()
    symbols = ("<unk>", "a", "b", "<eos>", "<backspace>")
    assert found == Vocabulary(symbols, bos=5, pad=6, eos=3, backspace=4, unknown=0)
    assert (found.actions, found.size) == (5, 7)
    assert found.without_backspace() == words
    assert words.without_backspace() is words


def test_what_stands_for_no_text():
    words = Vocabulary.build(["a", "b"], eos=True, unknown=True)
    assert words.special == [0, 3]
    assert words.with_backspace().special == [0, 3, 4]
    assert Vocabulary.build("ab", eos=False).special == []
    assert Vocabulary(("<s>", "</s>", "a"), bos=0, pad=1, eos=1).special == [0, 1]


def test_special_tokens_among_the_actions_stay_where_they_are():
    words = Vocabulary(("<s>", "</s>", "a"), bos=0, pad=1, eos=1)
    symbols = ("<s>", "</s>", "a", "<backspace>")
    assert words.with_backspace() == Vocabulary(symbols, bos=0, pad=1, eos=1, backspace=3)
    assert words.with_backspace().without_backspace() == words


def test_a_backspace_that_cannot_be():
    words = Vocabulary.build("ab", eos=True).with_backspace()
    with pytest.raises(ValueError, match=r"^the vocabulary has a backspace already$"):
        words.with_backspace()
    message = r"^without eos there is no backspace: outputs are as long as sources$"
    with pytest.raises(ValueError, match=message):
        Vocabulary.build("ab", eos=False).with_backspace()
    odd = Vocabulary(("a", "<back>", "."), bos=3, pad=3, eos=2, backspace=1)
    with pytest.raises(ValueError, match=r"^backspace is 1, but the last action is 2$"):
        odd.without_backspace()
