"""Own samples: their distribution, their log-probabilities, their costs and their coordinates."""

from collections import Counter

import pytest
import torch

from freerun.costs import edit_distance
from freerun.decoding import greedy
from freerun.methods import Clock
from freerun.methods.samples import draw_samples, write_greedily
from tests.helpers import agreement, close, log_prob, poisoned, single, tiny_batch, tiny_policy
from tests.methods.enumeration import all_outputs, costs_of, many, tiny_example, tokens_of

CLOCK = Clock(2, total=9, seed=3)


@pytest.mark.parametrize("settings", [{}, {"eos": False}, {"attention": "general", "cell": "lstm"}])
def test_samples_have_the_probabilities_of_the_policy(settings):
    """2,000 examples with 4 samples each, against all outputs."""
    policy, one = tiny_example(length=3, **settings)
    drawn = draw_samples(policy, many(one, 2_000), 4, CLOCK, stretch=1.5)
    assert drawn.rows.tolist() == [row for row in range(2_000) for _ in range(4)]
    every = tokens_of(all_outputs(policy, one))
    expected = {tokens: torch.tensor(log_prob(policy, one.source, tokens)).exp().item()
                for tokens in every}  # fmt: skip
    assert agreement(Counter(tokens_of(drawn)), expected) > 1e-3


def test_log_probabilities_are_those_of_the_sampler():
    """Of every token, eos and outputs that were cut off included."""
    policy = tiny_policy(4, attention="additive", input_feeding=True)
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), targets=(3, 1, 3, 2))
    drawn = draw_samples(policy, batch, 5, CLOCK, stretch=1.0)
    found = drawn.log_probs(drawn.read(policy, batch))
    assert not found[~drawn.mask].any()
    ended = [tokens[-1] == policy.vocabulary.eos for tokens in tokens_of(drawn)]
    assert len(set(ended)) == 2
    for row, tokens in enumerate(tokens_of(drawn)):
        source = single(batch, int(drawn.rows[row])).source
        assert found[row].sum().item() == pytest.approx(log_prob(policy, source, tokens))


def test_an_example_has_the_same_samples_in_any_batch_and_number():
    policy = tiny_policy(4)
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    few, more = (draw_samples(policy, batch, k, CLOCK, stretch=1.5) for k in (2, 3))
    assert tokens_of(few)[::2] == tokens_of(more)[::3]
    assert tokens_of(few)[1::2] == tokens_of(more)[1::3]
    for row in range(4):
        alone = draw_samples(policy, single(batch, row), 3, CLOCK, stretch=1.5)
        assert tokens_of(alone) == tokens_of(more)[3 * row : 3 * row + 3]
    later = draw_samples(policy, batch, 3, Clock(3, 9, seed=3), stretch=1.5)
    assert tokens_of(later) != tokens_of(more)


def test_greedy_outputs_are_those_of_decoding():
    policy = tiny_policy(4)
    batch = tiny_batch(policy, targets=(4, 4, 4, 4))
    expected = greedy(policy, batch.source)
    found = write_greedily(policy, batch, stretch=9.0)
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.mask.sum(1), expected.lengths)


def test_given_tokens_come_first():
    policy = tiny_policy(4)
    batch = tiny_batch(policy, targets=(4, 1, 3, 2))
    given = torch.tensor([2, 1, 0, 2])
    drawn = draw_samples(policy, batch, 2, CLOCK, stretch=1.5, given=given)
    for row, tokens in enumerate(tokens_of(drawn)):
        example = int(drawn.rows[row])
        count = int(given[example])
        assert list(tokens[:count]) == batch.target[example, :count].tolist()
        if count == batch.lengths[example]:  # its eos is given
            assert len(tokens) == count


def test_costs_leave_out_eos():
    policy, one = tiny_example()
    every = all_outputs(policy, one)
    found = every.compute_costs(one, policy.vocabulary, edit_distance)
    close(found, costs_of(every, policy, one))
    right = tokens_of(every).index(tuple(one.target[0].tolist()))
    assert found[right] == 0
    assert found[tokens_of(every).index((policy.vocabulary.eos,))] == 1


def test_samples_come_without_dropout_and_gradient():
    policy = tiny_policy(4, dropout=0.5, layers=2)
    batch = tiny_batch(policy)
    expected = draw_samples(policy, batch, 3, CLOCK, stretch=1.5)
    policy.train()
    found = draw_samples(policy, batch, 3, CLOCK, stretch=1.5)
    assert policy.training
    assert torch.equal(found.tokens, expected.tokens)


def test_a_row_that_is_not_a_number_changes_no_other():
    policy = tiny_policy(4, source="real", attention="general")
    batch = tiny_batch(policy)
    clean, found = (
        draw_samples(policy, rows, 2, CLOCK, stretch=1.5) for rows in (batch, poisoned(batch))
    )
    others = found.rows != 1
    assert [tokens_of(clean)[i] for i in others.nonzero()[:, 0]] == [
        tokens_of(found)[i] for i in others.nonzero()[:, 0]
    ]
    scores = found.log_probs(found.read(policy, poisoned(batch)))
    expected = clean.log_probs(clean.read(policy, batch))
    assert scores[~others].sum().isnan()
    for row in others.nonzero()[:, 0].tolist():
        close(scores[row][found.mask[row]], expected[row][clean.mask[row]])
