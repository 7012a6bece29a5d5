"""Metrics of sums over examples: their values are those of the libraries, for every set."""

import pickle

import numpy as np
import pytest
import seqeval.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from sacrebleu.metrics import BLEU, CHRF, TER

from freerun.metrics import METRICS, Statistics, bleu
from freerun.metrics.corpora import ngrams
from freerun.metrics.corrections import find_edits

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "."]), max_size=7).map(
    " ".join
)
ROWS = st.lists(st.integers(0, 3), max_size=9)
TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), min_size=4, max_size=4)
PAIRS = {"text": (WORDS, WORDS), "tokens": (ROWS, ROWS), "tags": (TAGS, TAGS)}
PAIRS["corrections"] = (st.tuples(WORDS, WORDS), WORDS)
PAIRS["cells"] = (st.lists(st.integers(0, 3), min_size=4, max_size=4),) * 2


def sacrebleu(outputs, references):
    long = any(len(text.split()) > 3 for text in references)
    return BLEU(effective_order=not long).corpus_score(outputs, [references]).score


def repeated(outputs, n):
    found = [ngrams(row, n) for row in outputs if len(row) >= n]
    return np.mean([1 - len(set(grams)) / len(grams) for grams in found]) if found else 0.0


def edits(outputs, references):
    total = sum(map(Levenshtein.distance, outputs, references))
    return total / max(sum(map(len, references)), 1)


def f_half(pairs, references):
    cases = [
        (find_edits(source.split(), output.split()), find_edits(source.split(), text.split()))
        for (source, output), text in zip(pairs, references, strict=True)
    ]
    right, found, wanted = (
        sum(len(each) for each in column)
        for column in zip(*((one & other, one, other) for one, other in cases), strict=True)
    )
    if not found or not wanted:
        return float(not found and not wanted)
    precision, recall = right / found, right / wanted
    return 1.25 * precision * recall / (0.25 * precision + recall) if right else 0.0


def words_of(texts):
    return [text.split() for text in texts]


SLOW = {
    "wer": lambda o, r: edits(words_of(o), words_of(r)),
    "cer": edits,
    "sequence_error": lambda o, r: sum(map(str.__ne__, o, r)) / len(r),
    "ter": lambda o, r: TER().corpus_score(o, [r]).score,
    "edit_f": f_half,
    "hamming_error": lambda o, r: float(np.mean(np.array(o) != np.array(r))),
    "accuracy": lambda o, r: float(np.mean(np.array(o) == np.array(r))),
    "character_error": edits,
    "token_error": edits,
    "exact_match": lambda o, r: sum(map(str.__eq__, o, r)) / len(r),
    "chunk_f1": lambda o, r: seqeval.metrics.f1_score(r, o, zero_division=1),
    "bleu": sacrebleu,
    "chrf": lambda o, r: CHRF().corpus_score(o, [r]).score,
    "repetition": lambda o, _: repeated(o, 4),
    "diversity": lambda o, _: np.prod([1 - repeated(o, n) for n in (2, 3, 4)]),
}


def rows(name):
    return st.lists(st.tuples(*PAIRS[METRICS[name].form]), min_size=1, max_size=6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SLOW)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_values_are_those_of_slow_twins_for_all_and_for_resampled_examples(name, data):
    outputs, references = map(list, zip(*data.draw(rows(name)), strict=True))
    value, statistics = METRICS[name].measure(outputs, references)
    if any(isinstance(text, list) or text for text in references):
        assert value == pytest.approx(SLOW[name](outputs, references), abs=1e-9)
    assert value == METRICS[name](outputs, references) == statistics.value
    places = st.integers(0, len(outputs) - 1)
    drawn = data.draw(st.lists(places, min_size=len(outputs), max_size=len(outputs)))
    again = [[side[i] for i in drawn] for side in (outputs, references)]
    counts = np.bincount(drawn, minlength=len(outputs)).astype(float)
    found = statistics.compute(np.stack([counts @ statistics.rows] * 2))
    if name != "bleu":  # its tokenizer and orders are those of all references
        assert found[0] == pytest.approx(METRICS[name](*again), abs=1e-9)
    elif any(text.strip() for text in again[1]):
        long = any(len(text.split()) > 3 for text in references)
        expected = BLEU(effective_order=not long).corpus_score(again[0], [again[1]]).score
        assert found[0] == pytest.approx(expected, abs=1e-9)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", sorted(METRICS.keys() - SLOW.keys() - {"mauve", "rouge"}))
def test_metrics_of_all_outputs_together_have_none(name):
    assert name in ("entropy", "ms_jaccard")
    assert METRICS[name].measure([[1, 2]], [[1, 3]])[1] is None


def test_statistics_travel_between_processes():
    statistics = bleu.measure(["the cat sat on a mat"], ["the cat sat on the mat"])[1]
    assert isinstance(statistics, Statistics)
    assert pickle.loads(pickle.dumps(statistics)).value == statistics.value > 30


def test_without_examples_there_is_a_value():
    assert METRICS["character_error"]([], []) == METRICS["exact_match"]([], []) == 0
