"""RAML: its distribution by enumeration, exact and by importance weights, and its limits."""

import itertools
import math
from collections import Counter

import pytest
import torch

from freerun.costs import edit_distance
from freerun.methods import MLE, RAML, Clock
from freerun.methods.raml import LEAST_TEMPERATURE
from freerun.methods.samples import Samples
from freerun.vocabulary import Vocabulary
from tests.helpers import agreement, close, raises, single, tiny_batch, tiny_policy
from tests.methods.enumeration import many, tokens_of

CLOCK = Clock(2, total=9, seed=3)
LONG = torch.tensor(50)


def example(actions=4, *, eos=True, target=None):
    """A policy, and one example with a target of two tokens, and eos where there is one."""
    policy = tiny_policy(actions, eos=eos, limit=50)
    one = single(tiny_batch(policy, lengths=(2, 2), targets=(3, 3)), 0)
    if target is not None:
        one = type(one)(
            one.ids, one.source, torch.tensor([target]), torch.ones(1, len(target)).bool()
        )
    return policy, one


def drawn(method, policy, one, count):
    """How often each edited target is drawn."""
    edited = method.edit(many(one, count), policy.vocabulary, LONG.expand(count), CLOCK)
    return Counter(tokens_of(Samples(edited.ids, edited.target, edited.mask)))


def scripts(target, text, most):
    """Every output of lists of edits of a target without eos: yields output and number of edits."""
    if not target:
        for count in range(most + 1):
            for more in itertools.product(text, repeat=count):
                yield more, count
        return
    for count in range(most + 1):
        for more in itertools.product(text, repeat=count):
            for rest, edits in scripts(target[1:], text, most - count):
                yield (*more, target[0], *rest), count + edits
            if count < most:
                for rest, edits in scripts(target[1:], text, most - count - 1):
                    yield (*more, *rest), count + edits + 1
                    for other in text:
                        if other != target[0]:
                            yield (*more, other, *rest), count + edits + 1


@pytest.mark.parametrize("settings", [{"temperature": 0.8}, {"edits": 0.6}])
def test_with_fixed_lengths_it_is_the_distribution_of_the_paper(settings):
    """exp(-Δ/τ) over all sequences, where Δ is the number of wrong tokens."""
    policy, one = example(3, eos=False)
    target = one.target[0].tolist()
    weight = math.exp(-1 / 0.8) if "temperature" in settings else 0.6 / 3
    weights = {
        y: weight ** sum(a != b for a, b in zip(y, target, strict=True))
        for y in itertools.product(range(3), repeat=2)
    }
    whole = sum(weights.values())
    expected = {y: each / whole for y, each in weights.items()}
    found = drawn(RAML(**settings), policy, one, 10_000)
    assert found.keys() == expected.keys()
    assert agreement(found, expected) > 1e-3


def test_with_free_lengths_it_is_the_sum_over_lists_of_edits():
    """Both the probabilities and the draws; eos is kept, and never inserted."""
    policy, one = example(3, target=[1, 0, 2])
    weight = 0.1
    method = RAML(temperature=-1 / math.log(weight))
    sums = Counter()
    for output, edits in scripts((1, 0), (0, 1), 6):
        sums[(*output, 2)] += weight**edits
    whole = (1 - 2 * weight) ** -3 * (1 + 2 * weight) ** 2  # 3 places, 2 letters
    edits = method.build_edits(policy.vocabulary, torch.device("cpu"))
    outputs = [y for y, each in sums.items() if each / whole > 1e-3]
    assert len(outputs) > 15
    for output in outputs:
        y = torch.tensor([output])
        found = edits.log_prob(y, torch.ones_like(y).bool(), one.target, one.mask).exp().item()
        # Lists of 7 edits and more are left out of the sum.
        assert found == pytest.approx(sums[output] / whole, abs=1e-5)
    expected = {y: edits.log_prob(torch.tensor([y]), torch.ones(1, len(y)).bool(), one.target,
                                  one.mask).exp().item() for y in sums}  # fmt: skip
    assert sum(expected.values()) == pytest.approx(1, abs=1e-3)
    found = drawn(method, policy, one, 10_000)
    assert all(y[-1] == 2 and 2 not in y[:-1] for y in found)
    assert agreement(found, expected) > 1e-3


def test_probabilities_do_not_depend_on_padding():
    policy, _ = example(4)
    edits = RAML().build_edits(policy.vocabulary, torch.device("cpu"))
    outputs = torch.tensor([[0, 3, 9, 9], [1, 1, 2, 3]])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    targets = torch.tensor([[0, 3, 7], [1, 2, 3]])
    due = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    both = edits.log_prob(outputs, mask, targets, due)
    close(both[:1], edits.log_prob(outputs[:1, :2], mask[:1, :2], targets[:1, :2], due[:1, :2]))
    assert both.isfinite().all()
    never = edits.log_prob(torch.tensor([[0, 1]]), mask[:1, :2], targets[:1], due[:1])
    assert never.exp().item() < 1e-300  # without eos


@pytest.mark.parametrize("eos", [True, False])
def test_with_a_cost_candidates_come_near_the_distribution_of_the_paper(eos):
    """exp(-Δ/τ) of any cost, by importance weights; without them they are far away."""
    policy, one = example(3, eos=eos, target=[1, 0, 2] if eos else [1, 0])
    text = (0, 1) if eos else (0, 1, 2)

    def cost(hypotheses, lengths, references, reference_lengths):
        """Ones cost, and missing length."""
        there = torch.arange(hypotheses.shape[1]) < lengths[:, None]
        return ((hypotheses == 1) & there).sum(1).double() + (lengths - 1).abs() * 2.0

    method = RAML(cost=cost, temperature=0.9, candidates=100, edits=0.5)
    weights = {}
    for length in range(1, 7) if eos else [2]:
        for y in itertools.product(text, repeat=length):
            output = (*y, 2) if eos else y
            weights[output] = math.exp(-(y.count(1) + 2.0 * abs(length - 1)) / 0.9)
    if eos:
        weights[(2,)] = math.exp(-2.0 / 0.9)
    whole = sum(weights.values())
    found = drawn(method, policy, one, 600)
    apart = sum(abs(found[y] / 600 - each / whole) for y, each in weights.items()) / 2
    plain = drawn(RAML(edits=0.5), policy, one, 600)
    assert apart < 0.08
    assert sum(abs(plain[y] / 600 - each / whole) for y, each in weights.items()) / 2 > 0.3


def test_edit_distance_is_a_cost_like_others():
    """With exact weights, what several lists of edits lead to is not more likely for that."""
    policy, one = example(4)
    method = RAML(cost="edit_distance", temperature=0.2, candidates=200)
    found = drawn(method, policy, one, 300)
    target, due = one.target, one.lengths - 1
    by_distance = Counter()
    for y, times in found.items():
        cost = edit_distance(torch.tensor([y]), torch.tensor([len(y) - 1]), target, due)
        by_distance[round(2 * cost.item())] += times
    # Of one edit: 4 replacements, 2 deletions, and 7 different insertions, of 9 lists of edits.
    same = one.target[0, 0] == one.target[0, 1]
    weight = math.exp(-0.5 / 0.2)
    expected = (4 + (1 if same else 2) + 7) * weight
    assert by_distance[1] / by_distance[0] == pytest.approx(expected, rel=0.25)


def test_at_low_temperature_it_is_mle():
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy)
    expected = MLE().loss(policy, batch, CLOCK)
    outcome = RAML(temperature=0.01).loss(policy, batch, CLOCK)
    assert torch.equal(outcome.total, expected.total)
    assert int(outcome.count) == int(expected.count)
    assert float(outcome.metrics["edited"]) == 0


def test_there_is_no_edit_below_the_least_temperature():
    assert math.exp(-1 / LEAST_TEMPERATURE) > 0
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    found = RAML(temperature=LEAST_TEMPERATURE).loss(policy, batch, CLOCK)
    assert torch.equal(found.total, MLE().loss(policy, batch, CLOCK).total)
    # With a cost, edits have another weight.
    found = RAML(temperature=1e-4, cost="edit_distance").loss(policy, batch, CLOCK)
    assert found.total.isfinite()


def test_the_loss_is_the_log_loss_of_the_edited_targets_and_counts_their_tokens():
    policy = tiny_policy(5, limit=9)
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), targets=(5, 1, 3, 4))
    method = RAML(edits=0.5)
    edited = method.edit(batch, policy.vocabulary, LONG.expand(4), CLOCK)
    assert edited.lengths.tolist() != batch.lengths.tolist()
    outcome = method.loss(policy, batch, CLOCK)
    close(outcome.total, MLE().loss(policy, edited, CLOCK).total)
    assert int(outcome.count) == int(edited.mask.sum())


def test_targets_never_get_longer_than_the_policy_may_write():
    policy = tiny_policy(4, limit=3)
    batch = many(single(tiny_batch(policy, lengths=(2, 2), targets=(3, 3)), 0), 200)
    edited = RAML(edits=0.4).edit(batch, policy.vocabulary, policy.limit(batch.source), CLOCK)
    assert int(edited.lengths.max()) == 3
    assert 1 <= int(edited.lengths.min()) < 3


def test_special_tokens_are_kept():
    words = Vocabulary(("<unk>", "a", "b", "."), bos=4, pad=5, eos=3, unknown=0)
    policy = tiny_policy(words=words, limit=50)
    one = single(tiny_batch(policy, lengths=(2, 2), targets=(3, 3)), 0)
    one = type(one)(one.ids, one.source, torch.tensor([[0, 1, 3]]), one.mask)
    found = drawn(RAML(edits=0.7), policy, one, 500)
    assert all(y.count(0) == 1 and y.count(3) == 1 and y[-1] == 3 for y in found)
    assert len(found) > 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"edits": 0.0}, "edits is 0.0; it must be finite and above 0"),
        ({"temperature": math.inf}, "temperature is inf; it must be finite and above 0"),
        ({"temperature": 0.0013}, "temperature is 0.0013; it must be at least 0.00135"),
        ({"cost": "bleu"}, "temperature is required with a cost; it is in units of the cost"),
        ({"candidates": 5}, "candidates has no effect without a cost; leave it out"),
        ({"edits": 0.1, "temperature": 0.1}, "edits has no effect where temperature is given; "
         "leave one out"),
        ({"cost": "bleu", "temperature": 0.1, "candidates": 0},
         "candidates is 0; it must be at least 1"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(settings, message):
    with raises(ValueError, message):
        RAML(**settings)


def test_edits_that_are_too_likely():
    words = tiny_policy(5).vocabulary
    message = (
        "temperature is 0.8; it must be below 1/log(4) = 0.721, as otherwise longer outputs are "
        "the more likely ones"
    )
    with raises(ValueError, message):
        RAML(temperature=0.8).check(words)
    RAML(temperature=0.8).check(tiny_policy(5, eos=False).vocabulary)
    message = (
        "edits is 1.0; it must be below 1, as otherwise longer outputs are the more likely ones"
    )
    with raises(ValueError, message):
        RAML(edits=1.0).check(words)
    with raises(ValueError, "RAML needs at least two tokens of text, to replace one by another"):
        RAML().check(tiny_policy(2).vocabulary)
