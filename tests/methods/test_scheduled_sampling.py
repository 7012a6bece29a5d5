"""Scheduled sampling: its limits, its twin, and its mean over all coins by enumeration.

Coins and schedules: `tests/methods/test_coins.py`.
"""

import pytest
import torch

from freerun.decoding import argmax_tokens, sample_tokens
from freerun.losses import log_loss
from freerun.methods import MLE, Clock, ScheduledSampling
from freerun.randomness import uniform
from tests.helpers import chi_square, close, gradients, roll_in_own, single, tiny_batch, tiny_policy
from tests.methods.checks import expected_loss, gradcheck_loss, mean_loss
from tests.twins import scores_after, twin_roll_in

CLOCK = Clock(3, total=9, seed=1)
POLICIES = [
    {},
    {"attention": "general", "cell": "lstm"},
    {"attention": "additive", "input_feeding": True, "layers": 2},
    {"eos": False, "attention": "aligned", "source": "real", "bidirectional": True},
]


@pytest.fixture(params=POLICIES, ids=str)
def policy(request):
    return tiny_policy(4, **request.param)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=(5, 1, 3, 2, 4))


def at(share, **settings):
    return ScheduledSampling(schedule="constant", k=share, **settings)


@pytest.mark.parametrize("feedback", ["greedy", "sample"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_loss_is_that_of_its_twin(policy, batch, share, feedback):
    method = at(share, feedback=feedback)

    def choose(scores, rows, cells):
        if feedback == "greedy":
            return argmax_tokens(scores)
        names = (CLOCK.seed, "feedback", CLOCK.step, batch.ids[rows], cells)
        return sample_tokens(scores.log_softmax(-1), *names)

    own = method.draw_own(batch, CLOCK)
    expected = 0.0
    for row, inputs in enumerate(twin_roll_in(policy, batch, own, choose)):
        one = single(batch, row)
        scores = policy.force(one.source, torch.tensor([inputs])).logits(one.mask)
        expected += log_loss(scores, one.target[0])
    outcome = method.loss(policy, batch, CLOCK)
    close(outcome.total, expected)
    assert int(outcome.count) == int(batch.mask.sum())
    assert float(outcome.metrics["own_share"]) == pytest.approx(int(own.sum()) / 15)
    assert not outcome.metrics["own_share"].requires_grad


@pytest.mark.parametrize("feedback", ["greedy", "sample"])
@pytest.mark.parametrize(("passes", "share"), [(5, 0.0), (6, 0.5)])
def test_as_many_passes_as_cells_are_sequential(policy, batch, share, passes, feedback):
    """To the bit: the same tokens are read in the pass that is trained."""
    sequential, parallel = (
        at(share, feedback=feedback, passes=n).loss(policy, batch, CLOCK) for n in (None, passes)
    )
    assert torch.equal(parallel.total, sequential.total)
    found, expected = gradients(policy, parallel.total), gradients(policy, sequential.total)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    close(parallel.metrics, sequential.metrics)


@pytest.mark.parametrize("feedback", ["greedy", "sample"])
def test_two_passes_read_what_is_written_after_the_reference(policy, batch, feedback):
    """Mihaylova and Martins: scores of a forced pass, tokens of them, and a pass on the mixture."""
    method = at(0.5, feedback=feedback, passes=2)
    own, reference = method.draw_own(batch, CLOCK), batch.inputs(policy.vocabulary.bos)
    every = torch.ones_like(batch.mask)
    scores = policy.force(batch.source, reference).logits(every)
    if feedback == "greedy":
        written = scores.argmax(-1)
    else:
        ids, cells = batch.ids.repeat_interleave(every.shape[1]), every.nonzero()[:, 1]
        names = CLOCK.seed, "feedback", CLOCK.step, ids, cells
        written = sample_tokens(scores.log_softmax(-1), *names)
    written = written.view(every.shape)
    inputs = reference.clone()
    inputs[:, 1:] = torch.where(own[:, 1:], written[:, :-1], inputs[:, 1:])
    scores = policy.force(batch.source, inputs).logits(batch.mask)
    expected = log_loss(scores, batch.target[batch.mask])
    found = method.loss(policy, batch, CLOCK)
    close(found.total, expected)
    close(gradients(policy, found.total), gradients(policy, expected))


@pytest.mark.parametrize("feedback", ["greedy", "sample"])
@pytest.mark.parametrize("passes", [None, 3])
def test_with_reference_tokens_only_it_is_mle(policy, batch, feedback, passes):
    method = at(1.0, feedback=feedback, passes=passes)
    outcome, mle = (m.loss(policy, batch, CLOCK) for m in (method, MLE()))
    assert torch.equal(outcome.total, mle.total)
    found, expected = gradients(policy, outcome.total), gradients(policy, mle.total)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert outcome.metrics["own_share"] == 0


def test_no_gradient_flows_through_fed_tokens(policy, batch):
    """With own tokens only: the loss, and its gradient, of a learned roll-in taken as given."""
    inputs = roll_in_own(policy, batch, lambda scores, rows, cells: argmax_tokens(scores))
    scores = policy.force(batch.source, inputs.clone()).logits(batch.mask)
    expected = log_loss(scores, batch.target[batch.mask])
    found = at(0.0).loss(policy, batch, CLOCK).total
    close(found, expected)
    close(gradients(policy, found), gradients(policy, expected))


@pytest.mark.parametrize("feedback", ["greedy", "sample"])
def test_the_mean_over_coins_by_enumeration(feedback):
    """2^3 patterns of coins, and all own tokens: the mean over many examples comes close."""
    policy = tiny_policy(3, attention="general", seed=1)
    one = single(tiny_batch(policy, targets=(2, 4, 1, 3)), 1)
    assert one.target.shape == (1, 4)

    def choices(scores):
        if feedback == "sample":
            return scores.softmax(-1)
        return torch.nn.functional.one_hot(scores.argmax(-1), len(scores)).double()

    expected = expected_loss(policy, one, 0.6, choices)
    found, error = mean_loss(at(0.6, feedback=feedback), policy, one, 4000, CLOCK)
    assert abs(found - expected) < 3 * error
    assert error < 0.02 * expected
    for other in (0.0, 1.0):
        assert abs(expected_loss(policy, one, other, choices) - expected) > 10 * error


def test_samples_fed_follow_the_policy():
    policy = tiny_policy(4, eos=False, scale=0.7)
    one = single(tiny_batch(policy, lengths=(3, 1, 2, 2)), 0)
    draws = 4000
    many = one.select(torch.zeros(draws, dtype=torch.long))
    many = type(many)(torch.arange(draws), many.source, many.target, many.mask)
    fed = []
    force = policy.force
    policy.force = lambda source, inputs: fed.append(inputs) or force(source, inputs)
    for clock in (Clock(0), Clock(1), Clock(0, seed=1)):
        at(0.0, feedback="sample").loss(policy, many, clock)
    policy.force = force
    scores = scores_after(policy, one.source, torch.tensor([[policy.vocabulary.bos]])).detach()
    for inputs in fed:
        counts = inputs[:, 1].bincount(minlength=4)
        assert chi_square(counts, scores.softmax(-1) * draws) > 0.01
    # Draws of one example in different updates and runs are different draws.
    same = [(fed[0][:, 1] == inputs[:, 1]).double().mean() for inputs in fed[1:]]
    agree = float(scores.softmax(-1).square().sum())
    assert same == [pytest.approx(agree, abs=3 * (agree / draws) ** 0.5)] * 2


def test_the_draw_is_not_the_coin():
    """The number that decides for an own token must not decide which one."""
    coin = uniform(1, "reference or own", 3, torch.arange(500), 1)
    draw = uniform(1, "feedback", 3, torch.arange(500), 1)
    assert abs(float(torch.corrcoef(torch.stack([coin, draw]))[0, 1])) < 0.1


def test_finite_differences():
    """Between jumps of its own tokens the loss is smooth, and this is its gradient."""
    for passes in (None, 2):
        method = at(0.3, passes=passes)
        gradcheck_loss(method, attention="general", input_feeding=True)


@pytest.mark.usefixtures("unchecked")
def test_feedback_is_one_of_two():
    message = r"^feedback is 'Greedy'; it must be one of greedy, sample$"
    with pytest.raises(ValueError, match=message):
        ScheduledSampling(feedback="Greedy")


def test_one_pass_is_refused():
    with pytest.raises(ValueError, match=r"^passes is 1; it must be at least 2"):
        ScheduledSampling(passes=1)
