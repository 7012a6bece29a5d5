"""What a model's own mistakes bring about: figures by hand, by enumeration, and their intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch

from freerun.batch import Batch
from freerun.costs.rows import length_mask
from freerun.evaluation import (
    GREEDY,
    Decoding,
    decode_hypotheses,
    measure_exposure_bias,
    prefix_errors,
)
from freerun.evaluation.exposure_bias import _estimate, _plant
from freerun.evaluation.prefix_errors import PrefixErrors
from freerun.randomness import gumbel, uniform
from freerun.references import nearest_prefixes, optimal_tokens
from tests.helpers import Chain, chain, vocabulary

BIG = 20.0


@dataclass(frozen=True)
class Targets:
    """Sentence `rows[i][0]` of a chain, whose reference is `rows[i][1]`."""

    policy: Chain
    rows: list[tuple[int, list[int]]]

    @property
    def references(self):
        return [reference for _, reference in self.rows]

    def __len__(self):
        return len(self.rows)

    def batch(self, numbers, epoch=0):
        words = self.policy.vocabulary
        rows = [self.rows[number] for number in numbers]
        end = [] if words.eos is None else [words.eos]
        targets = [reference + end for _, reference in rows]
        width = max(map(len, targets))
        padded = [target + [words.pad] * (width - len(target)) for target in targets]
        mask = torch.tensor([[i < len(target) for i in range(width)] for target in targets])
        source = self.policy.source(*(sentence for sentence, _ in rows))
        return Batch(torch.tensor(numbers), source, torch.tensor(padded), mask)


def table(*rows):
    """The scores of one sentence: after each token, bos last, the token that is the most likely."""
    return torch.nn.functional.one_hot(torch.tensor(rows), len(rows) - 1).double()[None] * BIG


def test_a_model_that_only_repeats_its_mistakes():
    # It begins with b and copies: after a comes a, after b comes b. The references are all a.
    policy = Chain(table(0, 1, 1), eos=False, limit=4)
    found = measure_exposure_bias(policy, Targets(policy, [(0, [0, 0, 0, 0])]))
    assert (found.sentences, found.tokens) == (1, 4)
    assert found.after_reference.value == 1 / 4
    assert found.after_own.value == 1
    assert found.excess.value == found.share.value == 3 / 4
    assert found.excess_per_sentence.value == 3
    assert found.probability_excess.value == pytest.approx(3 / 4, abs=1e-6)
    assert found.own_by_position == [1, 1, 1, 1]
    assert found.paired_by_position == [1, 0, 0, 0]
    assert found.count_by_position == [1] * 4
    assert np.isnan(found.amplification.value)  # no token is right, so none can be replaced


def test_amplification_of_a_known_model():
    # Without a mistake it makes none. After a wrong token all others are wrong.
    policy = Chain(table(0, 1, 0), eos=False, limit=5)
    data = Targets(policy, [(0, [0] * 5)] * 40)
    found = measure_exposure_bias(policy, data, seed=3)
    cells = torch.arange(5)
    places = [int(uniform("place", 3, torch.tensor(i), cells).argmax()) for i in range(40)]
    assert found.amplification.value == pytest.approx(np.mean([4 - place for place in places]))
    assert found.amplification.low < found.amplification.value < found.amplification.high
    assert found.excess.value == 0
    assert np.isnan(found.share.value)


def test_a_model_that_does_not_look_back_has_none():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(30, 1, 4, generator=generator, dtype=torch.float64)
    policy = Chain(scores.expand(30, 5, 4), eos=False, limit=6)
    targets = torch.randint(4, (30, 6), generator=generator).tolist()
    found = measure_exposure_bias(policy, Targets(policy, list(enumerate(targets))), seed=1)
    assert 0 < found.after_own.value < 1
    assert found.excess.value == found.amplification.value == 0
    assert found.probability_excess.value == pytest.approx(0, abs=1e-7)


def test_amplification_is_that_of_greedy_decoding_however_own_prefixes_are_written():
    policy = padded_chain(4, sentences=5, seed=2, limit=5)
    data = Targets(policy, [(i % 5, [i % 3, (i + 1) % 3]) for i in range(12)])
    greedy = measure_exposure_bias(policy, data)
    sampled = measure_exposure_bias(policy, data, decoding=Decoding(sample=True, seed=1))
    assert sampled.after_own.value != greedy.after_own.value
    assert sampled.amplification.value == greedy.amplification.value


def padded_chain(actions, **settings):
    """A random chain that can read padding, too."""
    policy = chain(actions, **settings)
    policy.table = torch.cat([policy.table, policy.table[:, :1]], 1)
    return policy


def levenshtein(one, other):
    above = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
        above = row
    return above[-1]


@pytest.mark.parametrize("seed", range(4))
def test_edit_distance_equals_enumeration(seed):
    policy = padded_chain(4, sentences=3, seed=seed, limit=5, memory=1.5)
    eos = policy.vocabulary.eos
    generator = torch.Generator().manual_seed(seed)
    rows = [
        (int(torch.randint(3, (), generator=generator)), list(target))
        for length in (1, 2, 3)
        for target in product(range(3), repeat=length)
    ]
    found = measure_exposure_bias(policy, Targets(policy, rows), batch_size=7)

    def minimum(prefix, target):
        return min(levenshtein(prefix, target[:j]) for j in range(len(target) + 1))

    def errs(sentence, prefix, target):
        inputs = torch.tensor([[policy.vocabulary.bos, *prefix]])
        scores = policy.force(policy.source(sentence), inputs).scores[0, -1]
        token, best = int(scores.argmax()), minimum(prefix, target)
        after = levenshtein(prefix, target) if token == eos else minimum([*prefix, token], target)
        return after > best

    own = paired = count = reference = cells = 0
    for sentence, target in rows:
        greedy = decode_hypotheses(policy, Targets(policy, [(sentence, target)]))[0]
        for t in range(min(len(greedy) + 1, 5)):
            prefix = greedy[:t]
            best = minimum(prefix, target)
            near = max(j for j in range(len(target) + 1) if levenshtein(prefix, target[:j]) == best)
            own += errs(sentence, prefix, target)
            paired += errs(sentence, target[:near], target)
            count += 1
        for t in range(len(target) + 1):
            reference += errs(sentence, target[:t], target)
            cells += 1
    assert found.tokens == count
    assert found.after_own.value == pytest.approx(own / count)
    assert found.excess.value == pytest.approx((own - paired) / count)
    assert found.after_reference.value == pytest.approx(reference / cells)


def test_batches_and_order_change_nothing(monkeypatch):
    policy = padded_chain(4, sentences=5, seed=2, limit=5)
    rows = [(i % 5, [i % 3, (i + 1) % 3]) for i in range(12)]
    one = measure_exposure_bias(policy, Targets(policy, rows), decoding=Decoding(sample=True))
    other = measure_exposure_bias(
        policy, Targets(policy, rows), decoding=Decoding(sample=True), batch_size=1
    )
    monkeypatch.setattr(prefix_errors, "_MOST_POSITIONS", 15)
    parts = measure_exposure_bias(policy, Targets(policy, rows), decoding=Decoding(sample=True))
    assert parts == one
    assert one.own_by_position == other.own_by_position
    assert one.amplification.value == other.amplification.value
    assert one.excess.value == other.excess.value


def test_intervals_contain_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        lengths = generator.integers(5, 15, size=80)
        rates = generator.beta(2, 18, size=80)  # sentences differ: errors are not independent
        sums = np.zeros((80, 9))
        sums[:, 0], sums[:, 1] = generator.binomial(lengths, rates), lengths
        found = _estimate(sums, trial, 400)["after_reference"]
        hits += found.low <= 0.1 <= found.high
    assert 180 <= hits <= 199  # of 200, 190 are expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws is 0; it must be at least 1"),
        (
            {"cost": "edit_distance"},
            "cost is 'edit_distance', but outputs have a fixed length; use 'hamming'",
        ),
    ],
)
def test_what_it_refuses(settings, message):
    policy = Chain(table(0, 1, 0), eos=False)
    with pytest.raises(ValueError, match=message):
        measure_exposure_bias(policy, Targets(policy, [(0, [0])]), **settings)


def test_models_with_a_backspace_and_no_examples_are_refused():
    policy = Chain(table(0, 1, 0, 2), eos=True)
    with pytest.raises(ValueError, match="there are no examples"):
        measure_exposure_bias(policy, Targets(policy, []))
    policy.vocabulary = vocabulary(2).with_backspace()
    with pytest.raises(ValueError, match="the policy has a backspace"):
        measure_exposure_bias(policy, Targets(policy, [(0, [0])]))


@pytest.mark.parametrize("cost", ["edit_distance", "hamming"])
@pytest.mark.parametrize("unknown", [None, 2])
def test_optimal_tokens_of_all_prefixes_are_those_of_each(cost, unknown):
    policy = padded_chain(5, sentences=3, seed=1, limit=6)
    policy.vocabulary = replace(policy.vocabulary, unknown=unknown)
    eos = policy.vocabulary.eos
    rows = [(i % 3, list(target)) for i, target in enumerate(product(range(4), repeat=3))]
    batch = Targets(policy, rows).batch(range(len(rows)))
    tokens = torch.randint(4, (len(rows), 5), generator=torch.Generator().manual_seed(0))
    mask = length_mask(5, torch.arange(len(rows)) % 6)
    found = PrefixErrors(policy, batch, cost).find_optimal(tokens, mask)
    cells = mask.flatten().nonzero()[:, 0]
    marked = found.mark(cells, 5)
    at, places = mask.nonzero(as_tuple=True)
    lengths = torch.full_like(places, 3)
    if cost == "edit_distance":
        pairs = tokens[at], places, batch.target[at], lengths
        expected = optimal_tokens(*pairs, 5, eos, unknown=unknown)
        assert torch.equal(found.nearest[mask], nearest_prefixes(*pairs, unknown=unknown))
    else:
        right = batch.target[at, places.clamp(max=3)]
        right = right if unknown is None else right.where(right != unknown, -1)
        expected = torch.arange(5) == right[:, None]
        assert torch.equal(found.nearest[mask], torch.minimum(places, lengths))
    assert torch.equal(marked, expected)
    assert torch.equal(found.mark(cells[::3], 5), expected[::3])
    for token in range(5):
        there = found.contain(torch.full_like(tokens, token))
        assert torch.equal(there[mask], expected[:, token])
    log_probs = torch.randn(*tokens.shape, 5, dtype=torch.float64).log_softmax(2)
    sums = found.sum_probabilities(
        log_probs.gather(2, found.after.clamp(min=0)[:, None].expand(-1, 5, -1))
    )
    torch.testing.assert_close(sums[mask], (log_probs[mask].exp() * expected).sum(1))


@pytest.mark.parametrize("cost", ["edit_distance", "hamming"])
def test_a_symbol_that_training_lacks_matches_nothing_as_the_unknown_token(cost):
    rows = [(i % 3, list(target)) for i, target in enumerate(product(range(3), repeat=3))]
    tokens = torch.randint(4, (len(rows), 5), generator=torch.Generator().manual_seed(0))
    mask = length_mask(5, torch.arange(len(rows)) % 6)
    found = []
    for unknown in (2, None):
        policy = padded_chain(5, sentences=3, seed=1, limit=6)
        batch = Targets(policy, rows).batch(range(len(rows)))
        if unknown is None:  # closed tokens encode it as padding
            target = batch.target.masked_fill(batch.target == 2, policy.vocabulary.pad)
            batch = replace(batch, target=target)
        policy.vocabulary = replace(policy.vocabulary, unknown=unknown)
        errors = PrefixErrors(policy, batch, cost)
        optimal = errors.find_optimal(tokens, mask)
        found.append((optimal.mark(mask.flatten().nonzero()[:, 0], 5), errors.write(GREEDY)))
    (marked, written), (other, again) = found
    assert torch.equal(marked, other)
    assert torch.equal(written.wrong, again.wrong)
    torch.testing.assert_close(written.probability, again.probability)


@pytest.mark.parametrize(
    "decoding",
    [GREEDY, Decoding(sample=True, top_k=2, seed=3), Decoding(noise=0.3, seed=1), Decoding(beam=2)],
    ids=lambda decoding: decoding.how,
)
@pytest.mark.parametrize("unknown", [None, 1])
def test_outputs_are_judged_as_they_are_written(decoding, unknown):
    policy = padded_chain(4, sentences=5, seed=2, limit=6)
    policy.vocabulary = replace(policy.vocabulary, unknown=unknown)
    rows = [(i % 5, [i % 3, (i + 1) % 3, i % 2]) for i in range(30)]
    errors = PrefixErrors(policy, Targets(policy, rows).batch(range(30)), "edit_distance")
    written = errors.write(decoding)
    read = errors.read(written.tokens, written.mask)
    assert written.wrong.any()
    assert torch.equal(written.wrong, read.wrong)
    torch.testing.assert_close(written.probability, read.probability)


def test_planted_errors_are_followed_by_what_the_model_writes_after_them():
    policy = padded_chain(4, sentences=5, seed=2, limit=6)
    eos = policy.vocabulary.eos
    rows = [(i % 5, [i % 3, (i + 1) % 3, i % 2]) for i in range(30)]
    data = Targets(policy, rows)
    errors = PrefixErrors(policy, data.batch(range(30)), "edit_distance")
    greedy = errors.write(GREEDY)
    further, planted = _plant(errors, greedy, seed=4)
    assert 5 < planted.sum() < 30
    actions, right = torch.arange(4), greedy.mask & ~greedy.wrong & (greedy.tokens != eos)
    for i, (sentence, target) in enumerate(rows):
        draws = uniform("place", 4, torch.tensor(i), torch.arange(greedy.tokens.shape[1]))
        places = [(draws[j], j) for j in range(len(draws)) if right[i, j]]
        if not places:
            assert not planted[i]
            assert further[i] == 0
            continue
        place = max(places)[1]
        own = greedy.tokens[i, : greedy.mask[i].sum()].tolist()
        row = own[:place]

        def find(prefix, sentence=sentence, target=target):
            inputs = torch.tensor([[policy.vocabulary.bos, *prefix]])
            scores = policy.force(policy.source(sentence), inputs).scores[0, -1]
            pairs = torch.tensor([[*prefix, 0]]), torch.tensor([len(prefix)])
            pairs += torch.tensor([target]), torch.tensor([3])
            return scores, optimal_tokens(*pairs, 4, eos)[0]

        scores, optimal = find(row)
        optimal[eos] = True
        assert planted[i] == (not optimal.all())
        if optimal.all():
            assert further[i] == 0
            continue
        noise = gumbel("token", 4, torch.tensor(i), actions)
        row.append(int((scores.float() + noise).masked_fill(optimal, -torch.inf).argmax()))
        errs = 0
        while row[-1] != eos and len(row) < 6:
            scores, optimal = find(row)
            row.append(int(scores.argmax()))
            errs += not optimal[row[-1]]
        before = sum(not find(own[:j])[1][own[j]] for j in range(place + 1, len(own)))
        assert further[i] == errs - before
