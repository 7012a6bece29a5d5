"""What is reported: hand numbers."""

import pytest

from freerun.data import Data
from freerun.tasks import Spelling, SpellingCodec, metrics


def tokens(*words):
    return [[ord(letter) for letter in word] for word in words]


def test_hamming_error_weighs_every_cell_alike():
    assert metrics.hamming_error(tokens("a", "abc"), tokens("b", "abd")) == 2 / 4


def test_hamming_error_refuses_another_length():
    message = "an output of 1 tokens for a reference of 2; "
    with pytest.raises(ValueError, match="tokens") as caught:
        metrics.hamming_error(tokens("a"), tokens("ab"))
    assert str(caught.value) == message + "outputs of this task are as long as their sources"


def test_character_error_is_all_edits_by_all_characters():
    assert metrics.character_error(tokens("kitten", ""), tokens("sitting", "ab")) == 5 / 9
    assert metrics.character_error(tokens("abcd"), tokens("x")) == 4


def test_exact_match_is_a_share():
    assert metrics.exact_match(tokens("ab", "", "c"), tokens("ab", "", "d")) == 2 / 3


def test_outputs_and_references_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        metrics.character_error(tokens("a"), tokens("a", "b"))


def test_cell_errors_are_position_by_position():
    assert metrics.cell_errors([1, 2, 3], [1, 0, 3]) == [False, True, False]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "wrong"),
    [
        ("abc", "abc", ""),
        ("axc", "abc", "1"),
        ("ac", "abc", "1"),
        ("axbc", "abc", "1"),  # inserted before b
        ("xabc", "abc", "0"),
        ("abcx", "abc", "2"),  # inserted at the end
        ("", "abc", "012"),
        ("abc", "", ""),
        ("bcde", "abcd", "03"),
        ("xyz", "abc", "012"),
    ],
)
def test_aligned_errors_by_hand(hypothesis, reference, wrong):
    errors = metrics.aligned_errors(*tokens(hypothesis, reference))
    assert [str(i) for i, error in enumerate(errors) if error] == list(wrong)
    assert len(errors) == len(reference)


def test_the_commonest_token_and_the_smaller_of_two():
    assert metrics.commonest([[3, 1], [2, 3]]) == 3
    assert metrics.commonest([[2], [1]]) == 1


def test_constant_guesses_are_of_every_position_and_of_whole_targets():
    train = tokens("ab", "ab", "cb", "cd", "ce")
    assert metrics.constant_guesses(train) == tokens("cb", "ab")


@pytest.mark.parametrize("better", ["ab", "cb"])
def test_the_better_guess_on_dev_is_scored_on_test(given, better):
    train, dev = tokens("ab", "ab", "cb", "cd", "ce"), tokens(better)
    data = Data(given(*train), given(*dev), given(*tokens("ab", "abc")), SpellingCodec(3, 0.0, 0))
    right = better == "ab"
    expected = {"character_error": (1 if right else 3) / 5, "exact_match": right / 2}
    assert Spelling().majority(data) == expected


def test_a_constant_guess_is_as_long_as_the_median():
    train = tokens("a", "aa", "aab", "aabbb", "aacccccc")
    assert metrics.constant_guesses(train)[0] == tokens("aab")[0]
