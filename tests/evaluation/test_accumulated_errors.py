"""Errors judged by an oracle: by hand, by enumeration of a tiny grammar, and their intervals."""

from __future__ import annotations

from itertools import product
from math import log

import numpy as np
import pytest
import torch

from freerun.evaluation import Decoding, decode_hypotheses, measure_accumulated_errors
from freerun.evaluation.accumulated_errors import measure_divergence
from tests.evaluation.test_exposure_bias import Targets, padded_chain
from tests.helpers import Chain, close

SAMPLE = Decoding(sample=True, seed=5)


def probable(*rows):
    """A chain of one sentence and exactly four tokens: probabilities after each token, bos last."""
    table = torch.tensor(rows, dtype=torch.float64).log()[None]
    return Chain(table, eos=False, limit=4)


def kl(true, model):
    return sum(p * log(p / q) for p, q in zip(true, model, strict=True))


def test_a_model_that_is_lost_after_its_first_error():
    # The oracle always writes a with 0.8. The model is nearly right until it has written b.
    right, lost = (0.8, 0.2), (0.1, 0.9)
    oracle = probable(right, right, right)
    policy = probable((0.7, 0.3), lost, (0.4, 0.6))
    found = measure_accumulated_errors(policy, oracle, Targets(policy, [(0, [0, 0, 0, 0])]))
    first, near, far = kl(right, (0.4, 0.6)), kl(right, (0.7, 0.3)), kl(right, lost)
    regret = [first + i * far for i in range(4)]
    error = [(first + i * near) / (i + 1) for i in range(4)]
    assert (found.sentences, found.tokens, found.length) == (1, 4, 4)
    assert found.regret_by_length == pytest.approx(regret)
    assert found.error_by_length == pytest.approx(error)
    ratios = [r / e for r, e in zip(regret, error, strict=True)]
    assert found.accumulated_by_length == pytest.approx(ratios)
    assert found.accumulated.value == pytest.approx(ratios[3])
    excess = [100 * (ratio / (i + 1) - 1) for i, ratio in enumerate(ratios)]
    assert found.excess_percent_by_length == pytest.approx(excess, abs=1e-9)
    assert found.excess_percent.value == pytest.approx(excess[3])
    assert found.after_own.value == pytest.approx(regret[3] / 4)
    assert found.after_reference.value == pytest.approx(error[3])


@pytest.mark.parametrize("decoding", [Decoding(), SAMPLE], ids=["greedy", "sampled"])
def test_the_oracle_itself_makes_no_errors(decoding):
    policy = padded_chain(4, sentences=3, seed=1, limit=5, memory=1.0)
    data = Targets(policy, [(i % 3, [i % 3, 1, 2][: 1 + i % 3]) for i in range(9)])
    found = measure_accumulated_errors(policy, policy, data, decoding=decoding)
    assert found.regret_by_length == found.error_by_length == [0] * found.length
    assert found.after_own.value == found.after_own.high == 0
    assert np.isnan(found.accumulated.value)
    assert np.isnan(found.excess_percent.value)


def test_errors_do_not_accumulate_in_a_model_that_does_not_look_back():
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(2, 20, 1, 4, generator=generator, dtype=torch.float64)
    policy, oracle = (Chain(each.expand(20, 5, 4), eos=False, limit=6) for each in tables)
    targets = torch.randint(4, (20, 6), generator=generator).tolist()
    found = measure_accumulated_errors(policy, oracle, Targets(policy, list(enumerate(targets))))
    assert found.after_own.value > 0.1
    assert found.accumulated_by_length == pytest.approx(range(1, 7))
    for value in (found.excess_percent.low, found.excess_percent.high):
        assert value == pytest.approx(0, abs=1e-9)


LENGTH = 4


def grammar(*, sentences=2):
    """An oracle with eos, and a copy of it with other scores."""
    oracle = padded_chain(3, sentences=sentences, seed=3, limit=LENGTH, scale=1.0)
    # Text seldom ends early.
    oracle.table[..., oracle.vocabulary.eos] -= 1
    noise = torch.randn(oracle.table.shape, generator=torch.Generator().manual_seed(4)).double()
    return oracle, Chain(oracle.table + 0.7 * noise, limit=LENGTH)


def next_log_probs(policy, sentence, prefix):
    inputs = torch.tensor([[policy.vocabulary.bos, *prefix]])
    return policy.force(policy.source(sentence), inputs).scores[0, -1].log_softmax(0)


def enumerate_divergence(writer, policy, oracle, sentence):
    """At every place, the sum of D(h) over histories, each times its probability; and theirs."""
    total, alive = np.zeros(LENGTH), np.zeros(LENGTH)
    letters = [a for a in range(3) if a != policy.vocabulary.eos]
    for t in range(LENGTH):
        for prefix in product(letters, repeat=t):
            chance = 1.0
            for i, token in enumerate(prefix):
                chance *= float(next_log_probs(writer, sentence, prefix[:i])[token].exp())
            true, model = (next_log_probs(each, sentence, prefix) for each in (oracle, policy))
            total[t] += chance * float((true.exp() * (true - model)).sum())
            alive[t] += chance
    return total, alive


def expected_curves(policy, oracle, length, sentences=2):
    """R(l) and ε(l) of own histories that are sampled, and of references from the oracle."""
    steps = []
    for writer in (policy, oracle):
        parts = [enumerate_divergence(writer, policy, oracle, x) for x in range(sentences)]
        total, alive = (sum(each) for each in zip(*parts, strict=True))
        steps.append((total / alive)[:length].cumsum())
    return steps[0], steps[1] / np.arange(1, length + 1)


def sampled_targets(oracle, count, seed):
    """Prompts of both kinds, with references that are drawn from the oracle."""
    bare = Targets(oracle, [(i % 2, [0]) for i in range(count)])
    rows = decode_hypotheses(oracle, bare, decoding=Decoding(sample=True, seed=seed))
    return Targets(oracle, [(i % 2, row) for i, row in enumerate(rows)])


def test_sampled_histories_equal_enumeration():
    oracle, policy = grammar()
    data = sampled_targets(oracle, 20_000, seed=1)
    found = measure_accumulated_errors(
        policy, oracle, data, decoding=SAMPLE, batch_size=4_096, draws=200
    )
    assert found.length >= 3
    regret, error = expected_curves(policy, oracle, found.length)
    assert found.regret_by_length == pytest.approx(regret.tolist(), rel=0.02)
    assert found.error_by_length == pytest.approx(error.tolist(), rel=0.02)
    excess = 100 * (regret[-1] / (found.length * error[-1]) - 1)
    assert abs(excess) > 3
    assert found.excess_percent.low <= excess <= found.excess_percent.high


def test_intervals_cover():
    oracle, policy = grammar()
    covered = 0
    for seed in range(60):
        data = sampled_targets(oracle, 200, seed=seed)
        decoding = Decoding(sample=True, seed=1_000 + seed)
        found = measure_accumulated_errors(policy, oracle, data, decoding=decoding, draws=200)
        regret, error = expected_curves(policy, oracle, found.length)
        true = 100 * (regret[-1] / (found.length * error[-1]) - 1)
        covered += found.excess_percent.low <= true <= found.excess_percent.high
    assert covered >= 52


def test_batches_change_nothing_and_ended_rows_are_left_out():
    oracle, policy = grammar()
    data = sampled_targets(oracle, 30, seed=2)
    whole, parts = (
        measure_accumulated_errors(policy, oracle, data, batch_size=size, draws=5)
        for size in (30, 7)
    )
    assert whole.regret_by_length == pytest.approx(parts.regret_by_length)
    assert whole.error_by_length == pytest.approx(parts.error_by_length)
    rows = torch.tensor([[0, 1, 2]])
    mask = torch.tensor([[True, True, False]])
    found = measure_divergence(policy, oracle, policy.source(0), rows, mask)
    assert found.isnan().tolist() == [[False, False, True]]
    true, model = (next_log_probs(each, 0, [0]) for each in (oracle, policy))
    close(found[0, 1], (true.exp() * (true - model)).sum())


def test_what_the_oracle_excludes_counts_nothing():
    oracle = probable((1, 0), (1, 0), (0.5, 0.5))
    policy = probable((0.25, 0.75), (0.5, 0.5), (0.5, 0.5))
    found = measure_accumulated_errors(policy, oracle, Targets(policy, [(0, [0] * 4)]))
    assert found.error_by_length[1] == pytest.approx(log(4) / 2)


def test_mistakes_are_refused():
    oracle, policy = grammar()
    data = Targets(policy, [(0, [0, 1])])
    with pytest.raises(ValueError, match=r"the symbols of the oracle differ from those of"):
        measure_accumulated_errors(policy, padded_chain(4), data)
    with pytest.raises(ValueError, match="there are no examples"):
        measure_accumulated_errors(policy, oracle, Targets(policy, []))
    with pytest.raises(ValueError, match="draws is 0"):
        measure_accumulated_errors(policy, oracle, data, draws=0)
    half, never = (0.5, 0.5), (1, 0)
    data = Targets(policy, [(0, [0] * 4)])
    with pytest.raises(ValueError, match="the model excludes a token that the oracle does not"):
        measure_accumulated_errors(probable(never, never, never), probable(half, half, half), data)
