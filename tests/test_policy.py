"""Evaluation mode: dropout is off while a policy decodes, and every module gets its mode back."""

import pytest
import torch

from freerun.decoding import argmax_tokens, beam_search, contrastive_search, greedy, sample
from freerun.policy import Policy, evaluation_mode
from freerun.trajectories import roll_in_learned, roll_in_mixed
from tests.helpers import chain, roll_in_own, tiny_batch, tiny_policy


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
    yield contrastive_search(policy, batch.source, top_k=3, penalty=0.5).tokens
    own = torch.ones(batch.mask.shape, dtype=torch.bool)
    yield roll_in_learned(policy, batch, own[:, 0], batch.lengths).tokens
    own[:, 1] = False
    yield roll_in_mixed(policy, batch, own, batch.lengths, taught(policy)).tokens
    yield roll_in_own(policy, batch, lambda scores, rows, cells: argmax_tokens(scores))


def taught(policy):
    """A reference that is asked in evaluation mode."""

    def reference(prefixes, lengths, rows):
        assert not policy.training
        return torch.zeros_like(rows)

    return reference


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
    for run in range(6):
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


def test_defaults_refuse_by_name():
    """What a policy does not define says what to override."""
    policy = chain()
    source = policy.source(0)
    trace = policy.force(source, torch.tensor([[0]]))
    message = r"^Chain has no hidden states; override advance and project$"
    with pytest.raises(ValueError, match=message):
        policy.advance(policy.start(source), torch.tensor([0]))
    with pytest.raises(ValueError, match=message):
        policy.project(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"^ChainTrace has no hidden states; override hidden$"):
        trace.hidden(torch.tensor([[True]]))
    with pytest.raises(ValueError, match=r"^Chain cannot withdraw tokens: override eraser$"):
        policy.eraser(source)
    assert (policy.reads_trees, policy.can_withdraw) == (False, False)
    assert (policy.max_positions, policy.max_source_length, trace.max_forks(3)) == (None,) * 3
    assert policy.prompt_lengths(source).tolist() == [0]
    assert policy.device == torch.device("cpu")


def test_a_policy_without_its_methods_cannot_be_made():
    class Half(Policy):
        def limit(self, source):
            return source.lengths

    with pytest.raises(TypeError, match="abstract"):
        Half()
