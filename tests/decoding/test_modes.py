"""Dropout is off while a policy decodes; afterwards every module is in the mode it was in."""

import pytest
import torch

from freerun.decoding import argmax_tokens, beam_search, greedy, sample
from freerun.policy import evaluation_mode
from tests.helpers import roll_in_own, tiny_batch, tiny_policy


def modes(policy):
    return {name: module.training for name, module in policy.named_modules()}


@pytest.fixture
def policy():
    """In training, but for one part, which its owner has frozen."""
    policy = tiny_policy(4, attention="additive", dropout=0.5, layers=2).train()
    policy.encoder.eval()
    policy.decoder.dropout.eval()
    return policy


def runs(policy, batch):
    yield greedy(policy, batch.source).tokens
    yield sample(policy, batch.source, ids=batch.ids, seed=0).tokens
    yield beam_search(policy, batch.source, size=3).tokens
    yield roll_in_own(policy, batch, lambda scores, rows, cells: argmax_tokens(scores))


def test_decoding_is_without_dropout_and_modes_come_back(policy):
    batch = tiny_batch(policy)
    before = modes(policy)
    assert set(before.values()) == {True, False}
    found = list(runs(policy, batch))
    assert modes(policy) == before
    for training, clean in zip(found, runs(policy.eval(), batch), strict=True):
        assert torch.equal(training, clean)


def test_modes_come_back_after_an_error(policy, monkeypatch):
    batch, before, seen = tiny_batch(policy), modes(policy), []

    def fail(*arguments):
        seen.append(policy.training)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(policy, "step", fail)
    for run in range(4):
        with pytest.raises(RuntimeError, match="out of memory"):
            [tokens for _, tokens in zip(range(run + 1), runs(policy, batch), strict=False)]
        assert modes(policy) == before
    with pytest.raises(RuntimeError, match="out of memory"):
        roll_in_own(policy, batch, lambda scores, rows, cells: argmax_tokens(scores))
    assert modes(policy) == before
    assert not any(seen)


def test_inside_the_block_all_is_evaluation(policy):
    with evaluation_mode(policy):
        assert not any(modes(policy).values())
        with evaluation_mode(policy):
            assert not any(modes(policy).values())
        assert not any(modes(policy).values())
    assert policy.training
