"""Greedy decoding and sampling: against enumeration, and whatever the batch."""

from math import exp

import pytest
import torch

from freerun.decoding import argmax_tokens, greedy, sample
from freerun.decoding.loop import CHECK_EVERY
from freerun.vocabulary import Vocabulary
from tests.helpers import (
    agreement,
    chain,
    close,
    log_prob,
    padded,
    poisoned,
    sequences,
    single,
    tiny_batch,
    tiny_policy,
    whole,
)
from tests.twins import twin_decode

POLICIES = [
    {"eos": True, "limit": 4},
    {"eos": False, "source": "real", "attention": "aligned", "cell": "lstm"},
    {"eos": True, "attention": "additive", "input_feeding": True, "layers": 2, "seed": 3},
    {"eos": True, "attention": "general", "source": "factors", "limit": 6, "seed": 1},
]


@pytest.fixture(params=POLICIES, ids=str)
def policy(request):
    return tiny_policy(4, **request.param)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy)


@pytest.mark.parametrize("truncation", [{}, {"temperature": 0.7, "top_k": 2}, {"top_p": 0.8}])
@pytest.mark.parametrize("eos", [True, False])
def test_probabilities_of_all_sequences_sum_to_one(eos, truncation):
    policy = tiny_policy(3, eos=eos, attention="general", limit=4)
    source = tiny_batch(policy, lengths=(4,)).source
    everything = list(sequences(3, 4, policy.vocabulary.eos))
    assert len(everything) == (31 if eos else 81)
    total = sum(exp(log_prob(policy, source, tokens, **truncation)) for tokens in everything)
    assert total == pytest.approx(1, abs=1e-12)


def test_greedy_is_the_plain_loop(policy, batch):
    decoded = greedy(policy, batch.source)
    limits = policy.limit(batch.source).tolist()
    eos = policy.vocabulary.eos
    for row, limit in enumerate(limits):
        source = single(batch, row).source
        tokens = twin_decode(policy, source, lambda scores, cell: scores.argmax(), limit)
        assert whole(decoded, row) == tuple(tokens)
        assert decoded.ended[row] == (eos is None or tokens[-1] == eos)
        expected = log_prob(policy, source, tokens)
        assert float(decoded.log_probs[row]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "truncation",
    [{}, {"temperature": 0.7}, {"top_k": 2}, {"top_p": 0.7}, {"top_k": 2, "top_p": 0.9}],
    ids=str,
)
@pytest.mark.parametrize("eos", [True, False])
def test_samples_and_their_log_probs_are_those_of_the_sampler(eos, truncation):
    policy = tiny_policy(3, eos=eos, attention="additive", limit=3, scale=0.7)
    source = tiny_batch(policy, lengths=(3,)).source
    draws = 6000
    many = source.select(torch.zeros(draws, dtype=torch.long))
    decoded = sample(policy, many, ids=torch.arange(draws), seed=2, **truncation)
    expected = {
        tokens: log_prob(policy, source, tokens, **truncation)
        for tokens in sequences(3, 3, policy.vocabulary.eos)
    }
    counts = dict.fromkeys(expected, 0)
    for row, found in enumerate(decoded.log_probs.tolist()):
        tokens = whole(decoded, row)
        counts[tokens] += 1
        assert found == pytest.approx(expected[tokens], abs=1e-5)
    probabilities = {tokens: exp(value) for tokens, value in expected.items()}
    assert agreement(counts, probabilities) > 0.01


def decoders(policy, batch, **settings):
    yield greedy(policy, batch.source, **settings)
    yield sample(policy, batch.source, ids=batch.ids, seed=4, temperature=1.5, **settings)


def test_nothing_is_written_after_the_end(policy, batch):
    for decoded in decoders(policy, batch, keep_scores=True):
        cells = torch.arange(decoded.tokens.shape[1])
        past = cells >= decoded.lengths[:, None]
        assert bool((decoded.tokens[past] == policy.vocabulary.pad).all())
        assert not decoded.scores[past].any()
        before = decoded.tokens[cells < decoded.lengths[:, None] - 1]
        assert policy.vocabulary.eos not in before.tolist()
        assert int(decoded.lengths.max()) == decoded.tokens.shape[1]


def test_pad_may_equal_eos():
    words = Vocabulary(("a", "b", "c", "."), bos=3, pad=3, eos=3)
    policy = tiny_policy(words=words, seed=5)
    batch = tiny_batch(policy)
    other = tiny_policy(words=Vocabulary(words.symbols, bos=3, pad=0, eos=3), seed=5)
    pairs = zip(decoders(policy, batch), decoders(other, batch), strict=True)
    for same, apart in pairs:
        assert same.lengths.tolist() == apart.lengths.tolist()
        assert [whole(same, i) for i in range(4)] == [whole(apart, i) for i in range(4)]
        assert same.lists(3) == apart.lists(3)
        assert torch.equal(same.ended, apart.ended)


def test_lists_leave_a_closing_eos_out():
    policy = chain(3)
    policy.table.zero_()
    policy.table[0, 3, 1] = policy.table[0, 1, 2] = 9.0  # b, then eos
    policy.table[1, :, 0] = 9.0  # a without end
    decoded = greedy(policy, policy.source(0, 1))
    assert decoded.tokens.tolist() == [[1, 2, 4, 4], [0, 0, 0, 0]]
    assert decoded.lists(2) == [[1], [0, 0, 0, 0]]
    assert decoded.lists(None) == [[1, 2], [0, 0, 0, 0]]
    assert decoded.ended.tolist() == [True, False]


def test_rows_leave_when_they_end_and_all_done_is_the_end():
    policy = chain(3, limit=50)
    policy.table.zero_()
    policy.table[0, 3, 1] = policy.table[0, 1, 2] = 9.0
    policy.table[1, 3, 2] = 9.0
    greedy(policy, policy.source(0, 1, 0))
    assert policy.steps == [3, 2]


def test_limits_are_those_of_each_row():
    policy = chain(3, eos=False, limit=9)
    limit = torch.tensor([1, 4, 2])
    for decoded in (
        greedy(policy, policy.source(0, 1, 1), limit=limit),
        sample(policy, policy.source(0, 1, 1), ids=torch.arange(3), seed=0, limit=limit),
    ):
        assert decoded.lengths.tolist() == [1, 4, 2]
        assert decoded.tokens.shape == (3, 4)
    assert policy.steps == [3, 2, 1, 1] * 2


def test_a_limit_below_one_is_refused():
    policy = chain(3)
    message = r"^the limit of row 1 is 0; it must be at least 1$"
    for decode in (greedy, lambda *a, **k: sample(*a, ids=torch.arange(2), seed=0, **k)):
        with pytest.raises(ValueError, match=message):
            decode(policy, policy.source(0, 1), limit=torch.tensor([2, 0]))


def test_scores_are_kept_only_when_asked_for(policy, batch):
    assert greedy(policy, batch.source).scores is None
    decoded = greedy(policy, batch.source, keep_scores=True)
    written = torch.arange(decoded.tokens.shape[1]) < decoded.lengths[:, None]
    start = torch.full_like(decoded.tokens[:, :1], policy.vocabulary.bos)
    inputs = torch.cat([start, decoded.tokens[:, :-1]], 1)
    close(decoded.scores[written], policy.force(batch.source, inputs).logits(written).detach())


def test_the_batch_changes_nothing(policy, batch):
    """Padding, order, and a batch of one: every example writes the same."""
    order = torch.tensor([2, 0, 3, 1])
    layouts = [padded(batch, 0), *(single(batch, row) for row in range(4))]
    for turn, decoded in enumerate(decoders(policy, batch)):
        (shuffled, wide, *alone) = (
            list(decoders(policy, layout))[turn] for layout in (batch.select(order), *layouts)
        )
        for row in range(4):
            place = order.tolist().index(row)
            expected = whole(decoded, row)
            assert whole(shuffled, place) == whole(wide, row) == whole(alone[row], 0) == expected
            assert float(alone[row].log_probs) == pytest.approx(float(decoded.log_probs[row]))


def test_draws_are_named_by_seed_and_id():
    policy = chain(4, limit=20, eos=False)
    source = policy.source(0, 0, 0, 0)
    ids = torch.tensor([5, 6, 5, 7])
    first = sample(policy, source, ids=ids, seed=1).tokens
    assert torch.equal(first, sample(policy, source, ids=ids, seed=1).tokens)
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, sample(policy, source, ids=ids, seed=2).tokens)


@pytest.mark.parametrize("eos", [True, False])
def test_a_row_of_not_a_number_is_alone_with_it(eos):
    policy = tiny_policy(4, eos=eos, source="real", attention="general", limit=5)
    batch = tiny_batch(policy)
    for clean, found in zip(
        decoders(policy, batch), decoders(policy, poisoned(batch)), strict=True
    ):
        for row in (0, 2, 3):
            assert whole(found, row) == whole(clean, row)
            assert found.log_probs[row] == clean.log_probs[row]
        assert found.log_probs[1].isnan()


def test_decoding_has_no_gradient(policy, batch):
    for decoded in decoders(policy, batch, keep_scores=True):
        assert not decoded.log_probs.requires_grad
        assert not decoded.scores.requires_grad


def test_few_digits_do_not_blur_log_probabilities():
    """Scores of half precision are summed in single precision."""
    policy = chain(3, eos=False, limit=30)
    policy.table = policy.table.bfloat16()
    decoded = greedy(policy, policy.source(0))
    exact = chain(3, eos=False, limit=30)
    exact.table = policy.table.double()
    expected = log_prob(exact, exact.source(0), decoded.tokens[0].tolist())
    assert float(decoded.log_probs[0]) == pytest.approx(expected, abs=1e-4)
    assert torch.equal(decoded.tokens, greedy(exact, exact.source(0)).tokens)
    tokens = argmax_tokens(policy.table[0])
    assert tokens.dtype == torch.int64


@pytest.mark.parametrize("cells", [2, 8])
def test_how_often_ends_are_looked_for_changes_nothing(policy, batch, cells, monkeypatch):
    ids = torch.arange(len(batch.ids))
    decode = [
        lambda: greedy(policy, batch.source, keep_scores=True),
        lambda: sample(policy, batch.source, ids=ids, seed=0, top_k=3, keep_scores=True),
    ]
    every = [run() for run in decode]
    monkeypatch.setitem(CHECK_EVERY, "cpu", cells)
    for expected, run in zip(every, decode, strict=True):
        found = run()
        for name in ("tokens", "lengths", "ended", "log_probs", "scores"):
            close(getattr(found, name), getattr(expected, name))
