"""Metrics of texts as costs of tokens."""

import copy

import pytest
import torch

from freerun.costs import edit_distance
from freerun.data import TextCodec
from freerun.imports import import_object
from freerun.methods import MRT, SEARNN
from freerun.methods.metric_costs import MetricCost
from freerun.methods.samples import check_cost, resolve_cost
from freerun.metrics import METRICS
from tests.helpers import raises

OWN = '''
from rapidfuzz.distance import Levenshtein

calls = []


def closeness(outputs, references, *, scale=1.0):
    """Compute how similar texts are; higher is better."""
    calls.append(len(outputs))
    edits = sum(map(Levenshtein.distance, outputs, references))
    return 1 - edits / max(sum(map(len, references)), 1)


def tokens(hypotheses, hypothesis_lengths, references, reference_lengths):
    return (hypothesis_lengths - reference_lengths).abs().double()

'''


def codec(tokens="characters"):
    rows = [{"source": "a", "target": text} for text in ("abc", "bcd", "cab") * 2]
    return TextCodec.learn(rows, [], target_tokens=tokens, source_tokens=None)


def pairs(count=40):
    """Return random outputs and targets of five tokens at most, with many equal pairs."""
    draw = torch.Generator().manual_seed(3)
    own, wanted = (torch.randint(0, 3, (count, 3), generator=draw) for _ in range(2))
    lengths = [torch.randint(low, 4, (count,), generator=draw) for low in (0, 1)]
    return own, lengths[0], wanted, lengths[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own_cost.py"
    path.write_text(OWN)
    return f"{path}:closeness"


@pytest.mark.parametrize("cls", [SEARNN, MRT])
def test_a_function_of_texts_equals_the_cost_of_tokens(cls, address):
    calls = import_object(address.replace("closeness", "calls"), "calls")
    calls.clear()
    method = cls(cost=address).for_codec(codec())
    expected = edit_distance(*pairs()) - 1  # negative, as higher values of the metric are better
    torch.testing.assert_close(method.cost(*pairs()), expected)
    assert copy.deepcopy(method).cost is method.cost
    # Each different pair was computed once.
    own, lengths, wanted, wanted_lengths = pairs()
    different = {
        (tuple(a[:i].tolist()), tuple(b[:j].tolist()))
        for a, i, b, j in zip(own, lengths, wanted, wanted_lengths, strict=True)
    }
    assert calls == [1] * len(different)
    assert len(different) < len(own)


def test_a_metric_with_statistics_is_computed_at_once():
    cost = MetricCost(METRICS["character_error"], codec())
    torch.testing.assert_close(cost(*pairs()), edit_distance(*pairs()))
    none = torch.zeros(0, 3, dtype=torch.int64)
    assert cost(none, none[:, 0], none, none[:, 0]).shape == (0,)
    assert SEARNN(cost=METRICS["wer"]).for_codec(codec()).cost.metric.name == "wer"


@pytest.mark.parametrize("name", ["character_error", "cer", "cer:normalizer=plain"])
def test_a_metric_by_name_equals_the_cost_of_tokens(name):
    method = SEARNN(cost=name, reference="min_edit_distance").for_codec(codec())
    torch.testing.assert_close(method.cost(*pairs()), edit_distance(*pairs()))
    with raises(ValueError, f"cost {name!r}: it is a metric of texts; call for_codec first"):
        SEARNN(cost=name).resolve_cost(codec().target)


def test_unknown_tokens_never_match():
    known = codec("characters+unk")
    (row,) = ([[known.target.unknown, 1]],)
    rows, lengths = torch.tensor(row), torch.tensor([2])
    cost = MetricCost(METRICS["sequence_error"], known)
    assert cost(rows, lengths, rows, lengths).tolist() == [1]
    rows = torch.tensor([[1, 2]])
    assert cost(rows, lengths, rows, lengths).tolist() == [0]


def test_other_costs_stay_as_they_are(address):
    for cost in ("gleu", None, edit_distance, address.replace("closeness", "tokens")):
        assert SEARNN(cost=cost).for_codec(codec()).cost == cost


def test_what_cannot_be_a_cost(address):
    message = (
        "the metric bleu_of_all cannot be a cost, which compares the text of each output with its "
        "own reference, and has a better direction"
    )
    for name in ("ms_jaccard", "entropy", "token_error", "edit_f"):
        with raises(ValueError, message.replace("bleu_of_all", name)):
            MetricCost(METRICS[name], codec())
    with raises(ValueError, f"cost {address!r}: it is a metric of texts; call for_codec first"):
        resolve_cost(address, codec().target, "SEARNN")


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (3, "cost is 3; it must be a function, or the name of one"),
        (lambda output, reference: 0.0, "cost must be a function of four arguments: outputs, "),
        (object, "cost must be a function of four arguments: outputs, "),
    ],
)
def test_what_does_not_take_the_arguments_of_a_cost(cost, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        check_cost(cost)
