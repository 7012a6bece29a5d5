"""What is reported: hand numbers."""

import pytest

from freerun import metrics
from freerun.metrics.sequences import find_aligned_errors, find_cell_errors, find_first_errors
from tests.helpers import raises


def tokens(*words):
    return [[ord(letter) for letter in word] for word in words]


def test_hamming_error_weighs_every_cell_alike():
    assert metrics.hamming_error(tokens("a", "abc"), tokens("b", "abd")) == 2 / 4


def test_hamming_error_refuses_another_length():
    message = "an output of 1 tokens for a reference of 2; "
    with raises(ValueError, message + "outputs of this task are as long as their sources"):
        metrics.hamming_error(tokens("a"), tokens("ab"))


def test_character_error_is_all_edits_by_all_characters():
    assert metrics.character_error(["kitten", ""], ["sitting", "ab"]) == 5 / 9
    assert metrics.character_error(["abcd"], ["x"]) == 4


def test_exact_match_is_a_share():
    assert metrics.exact_match(["ab", "", "c"], ["ab", "", "d"]) == 2 / 3


def test_outputs_and_references_must_be_as_many():
    message = (
        "metric 'character_error': there are 1 outputs and 2 references; each output needs one"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        metrics.character_error(["a"], ["a", "b"])


@pytest.mark.parametrize(
    "references", [["ab", "c"], ["", ""], ["𝒳 é"], [" a "], ["a\nb", ""], [""]]
)
def test_perfect_outputs_have_the_best_value_of_every_metric(references):
    """Short, empty, alone, outside of the basic plane, with white space."""
    best = {"character_error": 0, "exact_match": 1, "bleu": 100, "chrf": 100}
    for name, value in best.items():
        assert metrics.METRICS[name](references, references) == pytest.approx(value)
    rows = tokens(*references)
    best = {"token_error": 0, "hamming_error": 0, "accuracy": 1, "ms_jaccard": 1}
    for name, value in best.items():
        assert metrics.METRICS[name](rows, rows) == pytest.approx(value)


def test_empty_outputs_for_empty_and_other_references():
    assert metrics.bleu(["", ""], ["a", ""]) == metrics.chrf([""], ["a"]) == 0
    assert metrics.bleu(["a", ""], ["", ""]) == metrics.chrf(["a"], [""]) == 0
    assert metrics.character_error(["abc", ""], ["", ""]) == 3
    assert metrics.token_error(tokens("ab"), tokens("")) == 2
    assert metrics.ms_jaccard(tokens("", ""), tokens("a", "")) == 0


@pytest.mark.parametrize(
    ("outputs", "references", "value"),
    [
        (["O", "O"], ["O", "O"], 1),  # nothing to find, and nothing found
        (["O", "B-X"], ["O", "O"], 0),
        (["O", "O"], ["O", "B-X"], 0),
        (["B-X", "B-X"], ["O", "B-X"], 2 / 3),
    ],
)
def test_chunk_f1_where_one_side_has_no_chunks(outputs, references, value):
    assert metrics.chunk_f1([outputs], [references]) == pytest.approx(value)


def test_cell_errors_are_position_by_position():
    assert find_cell_errors([1, 2, 3], [1, 0, 3]) == [False, True, False]


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
    errors = find_aligned_errors(*tokens(hypothesis, reference))
    assert [str(i) for i, error in enumerate(errors) if error] == list(wrong)
    assert len(errors) == len(reference)


def test_accuracy_is_the_share_of_right_cells():
    assert metrics.accuracy(tokens("a", "abc"), tokens("b", "abd")) == 2 / 4


def test_token_error_is_all_edits_by_all_tokens():
    assert metrics.token_error(tokens("kitten", ""), tokens("sitting", "ab")) == 5 / 9


@pytest.mark.parametrize(
    ("output", "reference", "wrong"),
    [("abc", "abc", ""), ("ab", "abc", "2"), ("xabc", "abc", "012"), ("abcd", "abc", "")],
)
def test_first_errors_are_not_aligned(output, reference, wrong):
    errors = find_first_errors(*tokens(output, reference))
    assert [str(i) for i, error in enumerate(errors) if error] == list(wrong)
    assert len(errors) == len(reference)
