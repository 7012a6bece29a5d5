"""The F1 of chunks by hand and against seqeval."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.costs import chunk_f1, chunk_tags
from tests.costs.pairs import columns
from tests.helpers import raises

SYMBOLS = ["I-A", "O", "B-B", "B-A", "I-B"]
TAGS = chunk_tags(SYMBOLS)


def f1_costs(rows, symbols=SYMBOLS, unknown=None):
    """The costs of sentences of tags, each a string of them."""
    ids = [[[symbols.index(tag) for tag in side.split()] for side in row] for row in rows]
    return chunk_f1(*columns(ids), tags=chunk_tags(symbols, unknown)).tolist()


def test_what_tokens_say_of_chunks():
    assert TAGS.tolist() == [2, 0, 3, 1, 4]
    assert chunk_tags(["B-X-Y", "O", "<eos>", "B", "I"]).tolist() == [3, 0, 0, 1, 2]
    assert chunk_tags(SYMBOLS, unknown=3).tolist() == [2, 0, 3, 0, 4]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "cost"),
    [
        ("B-A I-A O", "B-A I-A O", 0),
        ("O O O", "O O O", 0),  # nothing to find, and nothing found
        ("B-A O O", "O O O", 1),
        ("O O O", "B-A O O", 1),
        ("B-A I-A O", "B-A O O", 1),  # the end is wrong
        ("B-A O O", "B-A I-A O", 1),
        ("B-B I-B O", "B-A I-A O", 1),  # the kind is wrong
        ("B-A O B-B", "B-A O O", 1 - 2 / 3),
        ("B-A B-A", "B-A I-A", 1),  # two chunks are not one
        ("I-A I-A O", "B-A I-A O", 0),  # what continues nothing begins a chunk
        ("B-A I-B", "B-A B-B", 0),  # and so does what is of another kind
        ("B-A I-A I-A", "B-A I-A", 1),
        ("B-A I-A", "B-A I-A O", 0),  # a chunk ends with its sentence
        ("", "", 0),
    ],
)
def test_by_hand(hypothesis, reference, cost):
    assert f1_costs([(hypothesis, reference)]) == [pytest.approx(cost)]


@given(data=st.data())
@settings(max_examples=50)
def test_it_is_the_f1_of_seqeval_on_one_sentence(data):
    metrics = pytest.importorskip("seqeval.metrics")
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    side = [st.lists(st.sampled_from(SYMBOLS), min_size=n, max_size=n) for n in lengths]
    rows = [(data.draw(tags), data.draw(tags)) for tags in side]
    found = f1_costs([tuple(map(" ".join, row)) for row in rows])
    for cost, (own, true) in zip(found, rows, strict=True):
        empty = not metrics.sequence_labeling.get_entities([*own, "O", *true])
        f1 = 1 if empty else metrics.f1_score([true], [own], zero_division=0)
        assert cost == pytest.approx(1 - f1, abs=1e-15)


def test_an_unknown_tag_belongs_to_no_chunk():
    assert f1_costs([("B-B", "B-B"), ("B-A I-A", "B-A I-A")], unknown=2) == [0, 0]
    assert f1_costs([("O B-A", "B-B B-A")], unknown=2) == [0]


def test_a_symbol_that_is_no_tag_is_an_error():
    message = (
        "the symbol 'PER' is not an IOB2 tag; chunks need tags such as 'O', 'B-PER' and 'I-PER'"
    )
    with raises(ValueError, message):
        chunk_tags(["O", "B-A", "PER"])


def test_a_vocabulary_without_chunks_is_an_error():
    message = "no symbol belongs to a chunk; chunks need IOB2 tags such as 'B-PER' and 'I-PER'"
    with raises(ValueError, message):
        chunk_tags(["O", "<eos>"])
