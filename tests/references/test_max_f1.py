"""The policy for the F1 of chunks against all completions."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.costs import make_cost
from freerun.references import make_reference
from tests.costs.pairs import columns
from tests.helpers import raises

SYMBOLS = ["B-A", "I-A", "O", "B-B", "I-B"]


def completions(rows, symbols=SYMBOLS):
    """The completions of pairs of prefix and reference, as tags."""
    ids = [tuple([symbols.index(tag) for tag in side.split()] for side in row) for row in rows]
    tokens, counts = make_reference("max_f1", symbols)(*columns(ids))
    return [
        " ".join(symbols[token] for token in row[:count])
        for row, count in zip(tokens.tolist(), counts, strict=True)
    ]


@pytest.mark.parametrize(
    ("prefix", "reference", "completion"),
    [
        ("B-A", "B-A I-A O", "I-A O"),  # right so far
        ("O", "B-A I-A O", "O O"),  # begun too late
        ("B-B", "B-A I-A I-A B-A", "O O B-A"),  # of another kind
        ("B-A B-A", "B-A I-A I-A B-B", "O B-B"),  # begun anew
        ("I-A", "B-A I-A", "I-A"),  # as good a beginning
        ("O B-A", "B-A O O", "O"),
        ("", "B-A I-A", "B-A I-A"),
        ("B-A", "B-A", ""),
        ("B-A O", "B-A", ""),
        ("B-A", "O I-A", "B-A"),  # the reference's own tag would go on with the prefix's chunk
        ("B-A", "O I-A I-A", "B-A I-A"),
        ("B-B", "O I-A I-A", "I-A I-A"),
        ("", "", ""),
    ],
)
def test_by_hand(prefix, reference, completion):
    assert completions([(prefix, reference)]) == [completion]


@pytest.mark.parametrize(
    "symbols",
    [
        SYMBOLS,
        ["O", "B-A", "I-A"],
        ["I-A", "I-B", "O"],  # no tag begins a chunk after another of its kind
        ["I-A", "O", "B-B", "I-B", "<unk>"],
    ],
    ids=" ".join,
)
@given(data=st.data())
@settings(max_examples=60)
def test_no_completion_has_a_better_f1(symbols, data):
    length = data.draw(st.integers(1, 5))
    tags = st.integers(0, len(symbols) - 1)
    reference = data.draw(st.lists(tags, min_size=length, max_size=length))
    prefix = data.draw(st.lists(tags, min_size=max(0, length - 4), max_size=length))
    unknown = 4 if "<unk>" in symbols else None
    cost = make_cost("chunk_f1", symbols, unknown)
    policy = make_reference("max_f1", symbols, unknown)

    tokens, counts = policy(*columns([(prefix, reference)]))
    more = tokens[0, : counts[0]].tolist()
    assert len(prefix) + len(more) == length
    every = itertools.product(range(len(symbols)), repeat=length - len(prefix))
    wholes = [prefix + more, *(prefix + list(rest) for rest in every)]
    costs = cost(*columns([(whole, reference) for whole in wholes]))
    assert costs[0] == costs.min()


def test_a_vocabulary_without_o_is_an_error():
    message = "no symbol is 'O'; max_f1 writes it where no chunk can be right anymore"
    with raises(ValueError, message):
        make_reference("max_f1", ["B-A", "I-A"])
