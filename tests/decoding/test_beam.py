"""Beam search: against enumeration of all sequences and against a plain, slow twin."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.decoding import beam_search, beam_search_n_best, greedy
from tests.helpers import (
    chain,
    log_prob,
    poisoned,
    raises,
    sequences,
    single,
    tiny_batch,
    tiny_policy,
    whole,
)
from tests.twins import twin_beam


@pytest.mark.parametrize("penalty", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("eos", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_of_everything_finds_the_best(penalty, eos, seed):
    """With room for every prefix, the result is the best of all sequences that end."""
    policy = chain(3, eos=eos, seed=seed, scale=1.0, memory=1.0)
    source = policy.source(0, 1)
    decoded = beam_search(policy, source, size=120, length_penalty=penalty)
    for row in range(2):
        scored = {
            tokens: log_prob(policy, source.select(torch.tensor([row])), tokens)
            for tokens in sequences(3, 4, policy.vocabulary.eos)
            if not eos or tokens[-1] == policy.vocabulary.eos
        }
        best = max(scored, key=lambda tokens: scored[tokens] / len(tokens) ** penalty)
        assert whole(decoded, row) == best
        assert float(decoded.log_probs[row]) == pytest.approx(scored[best], abs=1e-5)
    assert bool(decoded.ended.all())


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("eos", [True, False])
def test_the_n_best_of_a_beam_of_everything_are_those_of_all_sequences(penalty, eos):
    policy = chain(3, eos=eos, seed=1, scale=1.0, memory=1.0)
    source = policy.source(0, 1)
    found = beam_search_n_best(policy, source, size=120, count=7, length_penalty=penalty)
    for row in range(2):
        alone = source.select(torch.tensor([row]))
        scored = {
            tokens: log_prob(policy, alone, tokens)
            for tokens in sequences(3, 4, policy.vocabulary.eos)
            if not eos or tokens[-1] == policy.vocabulary.eos
        }
        best = sorted(scored, key=lambda tokens: -scored[tokens] / len(tokens) ** penalty)[:7]
        assert [tuple(each.tokens) for each in found[row]] == best
        for each in found[row]:
            value = scored[tuple(each.tokens)]
            assert each.log_prob == pytest.approx(value, abs=1e-5)
            assert each.score == pytest.approx(value / len(each.tokens) ** penalty, abs=1e-5)
            assert each.ended


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([0.0, 1.0, 1.5]), st.booleans())
def test_the_first_of_the_n_best_is_the_best(seed, size, penalty, eos):
    policy = chain(4, eos=eos, seed=seed, sentences=3, scale=1.5, memory=1.0)
    source, limit = policy.source(0, 1, 2), torch.tensor([1, 3, 5])
    settings = {"size": size, "length_penalty": penalty, "limit": limit}
    best = beam_search(policy, source, **settings)
    for count in (1, size):
        rows = beam_search_n_best(policy, source, count=count, **settings)
        for row, found in enumerate(rows):
            assert len(found) <= count
            assert tuple(found[0].tokens) == whole(best, row)
            assert found[0].ended == best.ended[row]
            assert len({tuple(each.tokens) for each in found}) == len(found)
            order = [(each.ended, each.score) for each in found]
            assert order == sorted(order, reverse=True)


def test_the_number_of_the_best_is_at_most_the_size():
    policy = chain(3, eos=True, seed=0, scale=1.0, memory=1.0)
    for count in (0, 3):
        message = f"count is {count}; it must lie in [1, 2], the size of the beam"
        with raises(ValueError, message):
            beam_search_n_best(policy, policy.source(0), size=2, count=count)


@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.6, 1.0, 1.5]),
    st.booleans(),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_the_twin(seed, size, penalty, eos, limits):
    """Any size, penalty and limits: every row does what a plain beam search does alone."""
    policy = chain(4, eos=eos, seed=seed, sentences=len(limits), scale=1.5, memory=1.0)
    source = policy.source(*range(len(limits)))
    limit = torch.tensor(limits)
    decoded = beam_search(policy, source, size=size, length_penalty=penalty, limit=limit)
    for row in range(len(limits)):
        alone = source.select(torch.tensor([row]))
        tokens, value = twin_beam(policy, alone, size, penalty, limits[row])
        assert whole(decoded, row) == tokens
        assert float(decoded.log_probs[row]) == pytest.approx(value, abs=1e-4)
        assert decoded.ended[row] == (not eos or tokens[-1] == policy.vocabulary.eos)
        past = decoded.tokens[row, len(tokens) :]
        assert bool((past == policy.vocabulary.pad).all())


POLICIES = [
    {"eos": True, "limit": 5},
    {"eos": False, "source": "real", "attention": "aligned", "cell": "lstm"},
    {"eos": True, "attention": "additive", "input_feeding": True, "layers": 2, "seed": 3},
]


@pytest.fixture(params=POLICIES, ids=str)
def policy(request):
    return tiny_policy(4, **request.param)


@pytest.mark.parametrize("size", [2, 5])
def test_the_twin_on_recurrent_policies(policy, size):
    """States, memories and fed outputs follow their hypotheses."""
    batch = tiny_batch(policy)
    decoded = beam_search(policy, batch.source, size=size)
    for row, limit in enumerate(policy.limit(batch.source).tolist()):
        source = single(batch, row).source
        tokens, value = twin_beam(policy, source, size, 1.0, limit)
        assert whole(decoded, row) == tokens
        assert float(decoded.log_probs[row]) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_of_one_is_greedy(policy, penalty):
    source = tiny_batch(policy, lengths=(3, 1, 4, 2, 4, 3)).source
    beam = beam_search(policy, source, size=1, length_penalty=penalty)
    plain = greedy(policy, source)
    assert torch.equal(beam.tokens, plain.tokens)
    assert torch.equal(beam.lengths, plain.lengths)
    assert torch.equal(beam.ended, plain.ended)
    torch.testing.assert_close(beam.log_probs, plain.log_probs)


def test_a_wider_beam_sees_past_a_bad_start():
    policy = chain(3, eos=True)
    policy.table.zero_()
    bos = policy.vocabulary.bos
    policy.table[0, bos] = torch.tensor([0.5, 0.4, 0.1]).log()  # a looks better at first
    policy.table[0, 0] = torch.tensor([0.4, 0.3, 0.3]).log()
    policy.table[0, 1] = torch.tensor([0.05, 0.05, 0.9]).log()  # but b leads to a sure end
    source = policy.source(0)
    assert whole(beam_search(policy, source, size=1), 0)[0] == 0
    assert whole(beam_search(policy, source, size=2), 0) == (1, 2)


def test_the_length_penalty_weighs_means_against_sums():
    policy = chain(2, eos=True)
    policy.table[0] = torch.tensor([0.6, 0.4]).log()  # eos at 0.4, whatever came before
    source = policy.source(0)
    assert beam_search(policy, source, size=30, length_penalty=0.0).lengths.tolist() == [1]
    assert beam_search(policy, source, size=30, length_penalty=1.0).lengths.tolist() == [4]


def test_the_search_stops_when_all_rows_are_done():
    policy = chain(3, limit=50)
    policy.table.zero_()
    policy.table[0, 3, 2] = 30.0  # one sentence ends at once, beyond what others can reach
    policy.table[1, 3, 0] = policy.table[1, 0, 2] = 30.0
    beam_search(policy, policy.source(0, 1, 0), size=2)
    assert policy.steps == [6, 2]


@pytest.mark.parametrize("eos", [True, False])
def test_a_row_of_not_a_number_is_alone_with_it(eos):
    policy = tiny_policy(4, eos=eos, source="real", attention="general")
    batch = tiny_batch(policy)
    clean, found = (beam_search(policy, b.source, size=3) for b in (batch, poisoned(batch)))
    for row in (0, 2, 3):
        assert whole(found, row) == whole(clean, row)
        assert found.log_probs[row] == clean.log_probs[row]
    assert found.log_probs[1].isnan()
    assert not found.ended[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "beam size is 0; it must be at least 1"),
        ({"length_penalty": -0.5}, "length_penalty is -0.5; it must be finite and at least 0"),
        (
            {"length_penalty": float("nan")},
            "length_penalty is nan; it must be finite and at least 0",
        ),
        ({"limit": torch.tensor([3, 0])}, "the limit of row 1 is 0; it must be at least 1"),
    ],
)
def test_settings_out_of_range(settings, message):
    policy = chain(3)
    with raises(ValueError, message):
        beam_search(policy, policy.source(0, 1), **{"size": 2, **settings})


def test_a_vocabulary_with_a_backspace_is_refused():
    policy = chain(3)
    policy.vocabulary = policy.vocabulary.with_backspace()
    message = (
        r"^beam search cannot withdraw tokens, and this vocabulary has a backspace: decode "
        r"greedily or sample$"
    )
    with pytest.raises(ValueError, match=message):
        beam_search(policy, policy.source(0), size=2)
