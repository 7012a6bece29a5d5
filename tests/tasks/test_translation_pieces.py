"""Text as symbols and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.data import MissingExtraError
from freerun.data.pieces import JOINER, BytePairs, Words, commonest_words

TEXTS = ["low lower lowest", "new newer newest", "wide wider widest", "“Grüße!” 🙂"] * 3
SOME = st.text(st.sampled_from("aB1_é'’-.,(\"  \t\u00a0ß🙂")) | st.text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't!", "Don ￭'t ￭!"),
        ("a state-of-the-art (3.5 €)", "a state-of-the-art (￭ 3 ￭.￭ 5 € ￭)"),
        ('He said: "So -"', 'He said ￭: "￭ So - ￭"'),
        ("Toms’ l'été, A_1", "Toms ￭’ l ￭'été ￭, A_1"),
        ("  ", ""),
    ],
)
def test_words_by_hand(text, words):
    found = Words().split(text)
    assert found == words.split()
    assert Words().count(text) == len(found)
    assert Words().join(found) == text.strip()


@settings(deadline=None)
@given(SOME)
def test_words_come_back(text):
    words = Words().split(text)
    assert len(words) == Words().count(text)
    assert not any(set(word).isdisjoint(text) for word in words if JOINER not in text)
    if JOINER not in text:
        assert Words().join(words) == " ".join(text.split())


@settings(deadline=None)
@given(SOME)
def test_text_that_is_tokenised_comes_back(text):
    words = Words(tokenised=True)
    assert words.count(text) == len(words.split(text))
    assert words.join(words.split(text)) == " ".join(text.split())


def test_any_symbols_can_be_joined():
    assert Words().join(["￭.", "(￭", "￭)", "a￭", "￭b", "￭"]) == ". () ab"


def test_what_is_reserved_is_unknown():
    assert Words(tokenised=True).split("a <eos> <unk> b") == ["a", "<unk>", "<unk>", "b"]
    assert "<unk>" in Words().split(f"a {JOINER} b")
    assert "<eos>" not in Words().split("a <eos> b")


def test_the_commonest_words_come_first_and_unknown_is_none():
    rows = [["b", "a", "<unk>"], ["c", "a", "<unk>￭"], ["b", "a"]]
    assert commonest_words(rows, 2) == ("a", "b")
    assert commonest_words(rows, 9) == ("a", "b", "c")


# Byte-pair tokens


@pytest.fixture(scope="module")
def pairs():
    return BytePairs(*BytePairs.learn(TEXTS, 280))


def test_frequent_pairs_are_merged():
    symbols, merges = BytePairs.learn(["aa ab ab"] * 2, 258)
    assert (symbols[256:], merges) == (("Ġa", "Ġab"), ("Ġ a", "Ġa b"))
    assert BytePairs(symbols, merges).split("ab aa") == ["Ġab", "Ġa", "a"]


def test_what_comes_once_is_not_merged():
    symbols, merges = BytePairs.learn(["abc"], 1000)
    assert len(symbols) == 256
    assert not merges


def test_it_is_learnt_alike_every_time():
    assert BytePairs.learn(TEXTS, 280) == BytePairs.learn(iter(TEXTS), 280)


def test_no_symbol_is_eos():
    symbols, _ = BytePairs.learn(["<eos> <eos> <unk>"] * 9, 400)
    assert not {"<eos>", "<unk>"} & set(symbols)


@settings(deadline=None)
@given(text=SOME)
def test_any_text_comes_back(pairs, text):
    tokens = pairs.split(text)
    assert pairs.join(tokens) == " ".join(text.split())
    assert bool(tokens) == bool(text.strip())


def test_broken_bytes_are_shown(pairs):
    assert pairs.join(pairs.split("ü")[:2]) == "\ufffd"


@pytest.mark.parametrize("merge", ["a", "a b c", "a q", "q a", "a  b"])
def test_merges_must_be_of_symbols(merge):
    with pytest.raises(ValueError, match="merge") as caught:
        BytePairs(["a", "b", "ab", "c"], ["a b", merge])
    assert str(caught.value) == f"the merge {merge!r} is not of two symbols, and to a third"


def test_the_library_is_asked_for(missing):
    missing("tokenizers")
    with pytest.raises(MissingExtraError) as caught:
        BytePairs.learn(["a"], 300)
    assert str(caught.value) == (
        "byte-pair encoding needs tokenizers, which is missing: pip install freerun[translation]"
    )
