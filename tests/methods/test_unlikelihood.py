"""Unlikelihood as a method: its twin, and what it looks at."""

import math

import pytest
import torch

from freerun.decoding import greedy
from freerun.methods import Clock, Unlikelihood
from freerun.randomness import uniform
from tests.helpers import raises, single, tiny_batch, tiny_policy
from tests.methods.checks import gradcheck_loss
from tests.twins import scores_after

CLOCK = Clock(2, 9, seed=4)


@pytest.fixture(params=[{}, {"attention": "general", "cell": "lstm"}], ids=["gru", "lstm"])
def policy(request):
    return tiny_policy(4, limit=12, scale=2.0, **request.param)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=(8, 1, 5, 6, 4))


def probabilities(policy, source, written):
    """The distribution at every cell of what was written, each prefix read from scratch."""
    inputs = [policy.vocabulary.bos]
    for token in written:
        yield token, scores_after(policy, source, torch.tensor([inputs])).softmax(-1).detach()
        inputs.append(token)


def test_the_loss_of_tokens_is_that_of_its_twin(policy, batch):
    likely = unlikely = 0.0
    for row in range(5):
        one = single(batch, row)
        target = one.target[0].tolist()
        for cell, (token, p) in enumerate(probabilities(policy, one.source, target)):
            likely -= math.log(p[token])
            unlikely -= sum(math.log(1 - p[c]) for c in set(target[:cell]) - {token})
    outcome = Unlikelihood(weight=0.7).loss(policy, batch, CLOCK)
    assert outcome.total.item() == pytest.approx(likely + 0.7 * unlikely, abs=1e-9)
    count = int(batch.mask.sum())
    assert outcome.metrics["unlikelihood"].item() == pytest.approx(unlikely / count)


@pytest.mark.parametrize("size", [1, 2, None])
def test_the_loss_of_sequences_is_that_of_its_twin(policy, batch, size):
    method = Unlikelihood(level="sequence", weight=0.7, ngram=size, share=0.6)
    ngram = size or 4
    own = uniform(CLOCK.seed, "unlikelihood", CLOCK.step, batch.ids) < 0.6
    assert 0 < own.sum() < 5
    expected, repeats, length = 0.0, 0, 0
    for row in range(5):
        one = single(batch, row)
        written = one.target[0].tolist()
        if own[row]:
            found = greedy(policy, one.source)
            written = found.tokens[0, : found.lengths[0]].tolist()
        again, seen = set(), set()
        for start in range(len(written) - ngram + 1):
            gram = tuple(written[start : start + ngram])
            again |= set(range(start, start + ngram)) if gram in seen else set()
            seen.add(gram)
        for cell, (token, p) in enumerate(probabilities(policy, one.source, written)):
            if not own[row]:
                expected -= math.log(p[token])
            elif cell in again:
                expected -= 0.7 * math.log(1 - p[token])
        repeats += len(again) if own[row] else 0
        length += len(written) if own[row] else 0
    outcome = method.loss(policy, batch, CLOCK)
    assert repeats > 0
    assert outcome.total.item() == pytest.approx(expected, abs=1e-9)
    assert outcome.metrics["repeated"].item() == pytest.approx(repeats / length)
    assert int(outcome.count) == int(batch.mask.sum())


def test_gradients_are_those_of_finite_differences():
    gradcheck_loss(Unlikelihood(weight=0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 0.0}, "weight is 0.0; it must be finite and above 0"),
        ({"ngram": 4}, "ngram has no effect on level=token; leave it out"),
        ({"share": 0.5}, "share has no effect on level=token; leave it out"),
        ({"level": "sequence", "ngram": 0}, "ngram is 0; it must be at least 1"),
        ({"level": "sequence", "share": 0.0}, "share is 0.0; it must lie in (0, 1]"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with raises(ValueError, message):
        Unlikelihood(**settings)
