"""Own and real continuations by length: figures by hand and of the metrics."""

from __future__ import annotations

from math import log

import pytest
import torch

from freerun.evaluation import Decoding, compare_continuations, decode_hypotheses
from freerun.metrics.corpora import entropy, repetition
from tests.evaluation.test_exposure_bias import Targets, padded_chain, table
from tests.helpers import Chain


def test_a_model_that_repeats_itself_by_hand():
    # It writes aaa… 16 times; real text has no 4-gram twice in 8 tokens.
    policy = Chain(table(0, 1, 0), eos=False, limit=16)
    real = [0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1]
    asked = []

    def mauve(numbers, own, real):
        asked.append((numbers, own, real))
        return 1 / len(own[0])

    data = Targets(policy, [(0, real[:7]), *[(0, real)] * 3])
    found = compare_continuations(policy, data, draws=20, mauve=mauve)
    assert found.mauve == [1 / 8, 1 / 16]
    assert asked == [([1, 2, 3], [[0] * n] * 3, [real[:n]] * 3) for n in (8, 16)]
    assert (found.sentences, found.lengths, found.counts) == (4, [8, 16], [3, 3])
    assert found.own_repetition == pytest.approx([4 / 5, 12 / 13])
    assert found.real_repetition[0] == 0
    assert found.own_entropy == [0, 0]
    assert found.real_entropy[0] == pytest.approx(log(5))
    assert found.entropy_excess[0].value == pytest.approx(-log(5))
    assert found.repetition_excess[0].low == pytest.approx(4 / 5)


def test_figures_are_those_of_the_metrics_on_texts_that_are_long_enough():
    policy = padded_chain(5, sentences=8, seed=1, limit=20, memory=1.0)
    policy.table[..., policy.vocabulary.eos] -= 3
    generator = torch.Generator().manual_seed(2)
    rows = [
        (i % 8, torch.randint(4, (9 if i < 5 else 18,), generator=generator).tolist())
        for i in range(40)
    ]
    data, decoding = Targets(policy, rows), Decoding(sample=True, seed=3)
    found = compare_continuations(policy, data, decoding=decoding, draws=50)
    outputs = decode_hypotheses(policy, data, decoding=decoding)
    for i, length in enumerate(found.lengths):
        pairs = [
            (own[:length], real[:length])
            for own, real in zip(outputs, data.references, strict=True)
            if len(own) >= length and len(real) >= length
        ]
        assert found.counts[i] == len(pairs) >= 20
        own, real = zip(*pairs, strict=True)
        assert found.own_repetition[i] == pytest.approx(repetition(own))
        assert found.real_repetition[i] == pytest.approx(repetition(real))
        assert found.own_entropy[i] == pytest.approx(entropy(own))
        assert found.real_entropy[i] == pytest.approx(entropy(real))
        for each in (found.repetition_excess[i], found.entropy_excess[i]):
            assert each.low < each.value < each.high
    assert found.lengths[0] == 8


def test_text_that_is_too_short_is_refused():
    policy = Chain(table(0, 1, 0), eos=False, limit=4)
    with pytest.raises(ValueError, match="fewer than half of the prompts have an output and a"):
        compare_continuations(policy, Targets(policy, [(0, [0, 1, 0, 1])]))
