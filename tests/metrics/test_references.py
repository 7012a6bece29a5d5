"""Metrics of examples that have several references."""

import numpy as np
import pytest
import sacrebleu

from freerun.data import DataError, TextCodec
from freerun.metrics import Statistics, find_metrics, measure, metric
from freerun.metrics.scoring import count_errors, find_position_errors, list_signatures
from freerun.metrics.statistics import choose_best, divide_sums
from freerun.settings import SettingError
from tests.helpers import raises

ROWS = [
    {"source": "x", "target": "a b c d e", "references": ["a b c", "b"]},
    {"source": "y", "target": "c d", "references": []},
    {"source": "z", "target": "e", "references": ["a e"]},
]
OUTPUTS = ["a b", "c d e", "a e"]


@pytest.fixture(scope="module")
def coded():
    """Return a codec of symbols, the examples, and outputs as tokens."""
    codec = TextCodec.learn(ROWS, [], target_tokens="symbols", source_tokens="characters")
    ids = {symbol: i for i, symbol in enumerate(codec.target.symbols)}
    return codec, codec.encode(ROWS), [[ids[s] for s in text.split()] for text in OUTPUTS]


def score(coded, *specs):
    codec, examples, outputs = coded
    found = measure(find_metrics(specs), codec, outputs, examples)
    return [found[spec.partition(":")[0]][0] for spec in specs]


def test_the_best_reference_of_each_output_counts(coded):
    # Edits and lengths: a b against a b c, 1 of 3; c d e against c d, 1 of 2; a e, 0 of 2.
    assert score(coded, "token_error", "wer", "exact_match", "sequence_error") == pytest.approx(
        [2 / 7, 2 / 7, 1 / 3, 2 / 3]
    )
    codec, examples, outputs = coded
    assert count_errors(codec, outputs, examples) == [1, 1, 0]
    wrong = find_position_errors(find_metrics(["token_error"]), codec, outputs, examples)
    assert wrong == [[False, False, True], [False, True], [False, False]]
    # With fewer examples, the others stay theirs.
    two = examples.take(2)
    assert count_errors(codec, outputs[:2], two) == [1, 1]
    assert [list(each.texts) for each in two.others] == [["a b c", "c d"], ["b", "c d"]]


@pytest.mark.parametrize(
    ("spec", "scorer"),
    [
        ("bleu:tokenize=none", sacrebleu.BLEU(tokenize="none", force=True)),
        ("chrf", sacrebleu.CHRF()),
        ("ter", sacrebleu.TER()),
    ],
)
def test_metrics_of_translations_equal_sacrebleu(coded, spec, scorer):
    references = [[row["target"], *row["references"]] for row in ROWS]
    streams = [[each[i] if i < len(each) else None for each in references] for i in range(3)]
    expected = scorer.corpus_score(OUTPUTS, streams)
    assert score(coded, spec) == [pytest.approx(expected.score)]
    codec, examples, _ = coded
    (signature,) = list_signatures(find_metrics([spec]), codec, examples).values()
    assert "nrefs:var" in signature
    assert signature.endswith(str(scorer.get_signature()))


def test_one_metric_of_corpora_uses_the_first_reference(coded):
    codec, examples, outputs = coded
    first = codec.encode([{**row, "references": []} for row in ROWS])
    found = [
        measure(find_metrics(["ms_jaccard"]), codec, outputs, each) for each in (examples, first)
    ]
    assert found[0] == found[1]


def test_the_best_numbers_of_each_example():
    found = [
        Statistics(np.array(rows, float), divide_sums)
        for rows in ([[1, 2], [3, 4]], [[1, 3], [3, 4]])
    ]
    assert choose_best(found, greater_is_better=False).rows.tolist() == [[1, 3], [3, 4]]
    assert choose_best(found, greater_is_better=True).rows.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("greater_is_better", [False, True])
def test_what_is_not_a_number_is_never_the_best(greater_is_better):
    def divide(sums):
        with np.errstate(invalid="ignore"):
            return sums[:, 0] / sums[:, 1]

    found = [Statistics(np.array(rows, float), divide) for rows in ([[0, 0]], [[2, 2]])]
    assert choose_best(found, greater_is_better=greater_is_better).rows.tolist() == [[2, 2]]


def test_a_metric_of_one_number_takes_several_or_none(coded):
    @metric()
    def one_number(outputs, references):
        return 1.0

    @metric(several=True)
    def all_of_them(outputs, references):
        return float(sum(map(len, references)))

    message = (
        "metric 'one_number': some examples have several references, which it can be computed for "
        "if it returns Statistics, or is decorated by metric(several=True)"
    )
    with raises(SettingError, message):
        score(coded, "one_number")
    assert score(coded, "all_of_them") == [6]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{**ROWS[0], "references": "b"}], {},
         "the data, row 0: references is 'b'; it must be a list of texts"),
        (ROWS, {"max_completion": 4, "truncation": "drop"},
         "the data: truncation=drop leaves out rows, which may not have several references"),
        ([{"text": "a b", "references": ["c"]}], {},
         "the data: rows of text have no other references; leave them out"),
    ],
)  # fmt: skip
def test_what_are_no_references(rows, settings, message):
    spec = {"target_tokens": "bytes", "source_tokens": None, **settings}
    codec = TextCodec.learn(rows, [], **spec)
    with raises(DataError, message):
        codec.encode(rows)
