"""Differentiable scheduled sampling: its limits, its twin, finite differences, enumeration."""

import math

import pytest
import torch

from freerun.losses import log_loss
from freerun.methods import MLE, Clock, DifferentiableScheduledSampling, ScheduledSampling
from freerun.randomness import gumbel
from freerun.roll_in import score_relaxed
from tests.helpers import chi_square, close, gradients, raises, single, tiny_batch, tiny_policy
from tests.methods.checks import expected_loss, gradcheck_loss, mean_loss
from tests.methods.test_scheduled_sampling import POLICIES
from tests.twins import scores_after, twin_score_relaxed

CLOCK = Clock(3, total=9, seed=1)
KINDS = [
    {},
    {"top_k": 2},
    {"straight_through": True},
    {"relaxation": "soft_sample"},
    {"relaxation": "soft_sample", "top_k": 2},
    {"relaxation": "soft_sample", "straight_through": True},
]


@pytest.fixture(params=POLICIES, ids=str)
def policy(request):
    return tiny_policy(4, **request.param)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=(5, 1, 3, 2, 4))


def at(share, **settings):
    """Mixtures, unless it says something else."""
    settings = {"straight_through": False, **settings}
    return DifferentiableScheduledSampling(schedule="constant", k=share, **settings)


def plain_relax(batch, alpha, kind):
    """The weights of equations 3 and 4, written out."""

    def relax(scores, rows, cells):
        actions = torch.arange(scores.shape[-1])
        if kind.get("relaxation") == "soft_sample":
            names = (
                CLOCK.seed,
                "relaxation",
                CLOCK.step,
                batch.ids[rows, None],
                cells[:, None],
                actions,
            )
            scores = scores + gumbel(*names, dtype=torch.float64)
        powers = torch.exp(alpha * (scores - scores.max(-1, keepdim=True).values))
        kept = powers.sort(-1, descending=True).values[:, : kind.get("top_k", 99)].min(-1).values
        powers = powers * (powers >= kept[:, None])
        weights = powers / powers.sum(-1, keepdim=True)
        if kind.get("straight_through"):
            hard = torch.eye(len(actions), dtype=torch.float64)[weights.argmax(-1)]
            weights = weights + (hard - weights).detach()
        return weights

    return relax


@pytest.mark.sample(16)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_loss_is_that_of_its_twin(policy, batch, share, kind):
    """And its gradient too."""
    method = at(share, alpha=0.7, **kind)
    own = method.draw_own(batch, CLOCK)
    scores = twin_score_relaxed(policy, batch, own, plain_relax(batch, 0.7, kind))
    expected = log_loss(scores, batch.target[batch.mask])
    outcome = method.loss(policy, batch, CLOCK)
    close(outcome.total, expected, 1e-11)
    close(gradients(policy, outcome.total), gradients(policy, expected), 1e-9)
    assert int(outcome.count) == int(batch.mask.sum())
    assert float(outcome.metrics["own_share"]) == pytest.approx(int(own.sum()) / 15)
    assert float(outcome.metrics["alpha"]) == pytest.approx(0.7)
    assert not any(metric.requires_grad for metric in outcome.metrics.values())


@pytest.mark.sample(16)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("passes", "share"), [(5, 0.0), (6, 0.5)])
def test_as_many_passes_as_cells_are_sequential(policy, batch, share, passes, kind):
    """In value and gradient."""
    sequential, parallel = (
        at(share, alpha=0.7, passes=n, **kind).loss(policy, batch, CLOCK) for n in (None, passes)
    )
    close(parallel.total, sequential.total, 1e-11)
    close(gradients(policy, parallel.total), gradients(policy, sequential.total), 1e-9)
    close(parallel.metrics, sequential.metrics)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_two_passes_mix_what_is_scored_after_the_reference(policy, batch, kind):
    """Written out: scores of a forced pass, mixtures of them, and a pass that reads them."""
    method = at(0.5, alpha=0.7, passes=2, **kind)
    own, reference = method.draw_own(batch, CLOCK), batch.inputs(policy.vocabulary.bos)
    every = torch.ones_like(batch.mask)
    rows, cells = every.nonzero().unbind(1)
    scores = policy.force(batch.source, reference).logits(every)
    weights = plain_relax(batch, 0.7, kind)(scores, rows, cells)
    mixtures = policy.embed(weights).view(*every.shape, -1)
    inputs = policy.embed(reference)
    after = torch.where(own[:, 1:, None], mixtures[:, :-1], inputs[:, 1:])
    inputs = torch.cat([inputs[:, :1], after], 1)
    expected = log_loss(
        policy.force(batch.source, inputs).logits(batch.mask), batch.target[batch.mask]
    )
    found = method.loss(policy, batch, CLOCK)
    close(found.total, expected, 1e-11)
    close(gradients(policy, found.total), gradients(policy, expected), 1e-9)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[4]], ids=str)
@pytest.mark.parametrize("passes", [None, 3])
def test_not_through_the_weights(policy, batch, kind, passes):
    """Without dropout, the value is the same; the gradient is that of the weights as given."""
    through, cut = (
        at(0.3, alpha=0.7, passes=passes, through=through, **kind) for through in (True, False)
    )
    outcome, other = (method.loss(policy, batch, CLOCK) for method in (cut, through))
    close(outcome.total, other.total, 1e-11)
    relax = plain_relax(batch, 0.7, kind)

    def given(scores, rows, cells):
        return relax(scores, rows, cells).detach()

    scores = score_relaxed(policy, batch, cut.draw_own(batch, CLOCK), given, passes=passes)
    expected = gradients(policy, log_loss(scores, batch.target[batch.mask]))
    close(gradients(policy, outcome.total), expected, 1e-9)


@pytest.mark.parametrize(
    ("kind", "passes"), [(kind, None) for kind in KINDS] + [(KINDS[4], 3)], ids=str
)
def test_with_reference_tokens_only_it_is_mle(policy, batch, kind, passes):
    outcome, mle = (m.loss(policy, batch, CLOCK) for m in (at(1.0, passes=passes, **kind), MLE()))
    close(outcome.total, mle.total)
    close(gradients(policy, outcome.total), gradients(policy, mle.total))


MODES = [{}, {"passes": 3}, {"through": False}, {"passes": 2, "through": False}]


def greedy_loss(policy, batch, share, passes):
    method = ScheduledSampling(schedule="constant", k=share, passes=passes)
    return method.loss(policy, batch, CLOCK)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_large_alpha_is_greedy_scheduled_sampling(policy, batch, share, mode):
    """In the limit the weights are one-hot and flat: value and gradient agree."""
    greedy = greedy_loss(policy, batch, share, mode.get("passes"))
    found = at(share, alpha=1e7, **mode).loss(policy, batch, CLOCK)
    close(found.total, greedy.total)
    close(gradients(policy, found.total), gradients(policy, greedy.total))


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("passes", [None, 2, 3])
def test_straight_through_feeds_the_greedy_token_at_any_alpha(policy, batch, share, alpha, passes):
    greedy = greedy_loss(policy, batch, share, passes)
    found = at(share, alpha=alpha, straight_through=True, passes=passes)
    close(found.loss(policy, batch, CLOCK).total, greedy.total)


def test_straight_through_feeds_exactly_an_embedding(policy, batch, monkeypatch):
    fed, embed = [], policy.embed

    def spy(weights):
        found = embed(weights)
        if weights.is_floating_point():
            fed.append((weights, found))
        return found

    monkeypatch.setattr(policy, "embed", spy)
    at(0.0, alpha=0.3, straight_through=True).loss(policy, batch, CLOCK)
    assert fed
    for weights, embedded in fed:
        assert torch.equal(embedded, embed(weights.argmax(-1)))


@pytest.mark.parametrize("hard", [False, True])
def test_a_few_tokens_need_no_product_with_the_whole_table(policy, batch, monkeypatch, hard):
    looked_up, embed = [], policy.embed
    monkeypatch.setattr(policy, "embed", lambda given: looked_up.append(given) or embed(given))
    at(0.0, alpha=0.3, top_k=2, straight_through=hard).loss(policy, batch, CLOCK)
    assert not any(given.is_floating_point() for given in looked_up)
    assert {given.shape[-1] for given in looked_up if given.dim() == 2} == {2}


def test_a_cell_gets_the_credit_of_those_after_it(monkeypatch):
    """The loss of later cells has a gradient by earlier scores, and by none through references."""
    policy = tiny_policy(4, eos=False)
    batch = tiny_batch(policy, lengths=(4, 4))
    seen, step = [], policy.step

    def spy(state, inputs):
        scores, state = step(state, inputs)
        scores.retain_grad()
        seen.append(scores)
        return scores, state

    monkeypatch.setattr(policy, "step", spy)
    for share, flows in ((0.0, True), (1.0, False)):
        seen.clear()
        at(share).loss(policy, batch, CLOCK).total.backward()
        for cell, scores in enumerate(seen):
            local = scores.detach().softmax(-1)
            local[torch.arange(2), batch.target[:, cell]] -= 1
            more = (scores.grad - local).abs().amax(-1) > 1e-9
            assert more.tolist() == [flows and cell < 3] * 2


@pytest.mark.parametrize(
    ("kind", "passes"),
    [(kind, None) for kind in KINDS[:2] + KINDS[3:5]] + [(KINDS[3], 2), (KINDS[4], 3)],
    ids=str,
)
def test_finite_differences(kind, passes):
    """The longest target has four cells, so that these passes are not the sequential roll-in."""
    method = at(0.3, alpha=1.5, passes=passes, **kind)
    gradcheck_loss(method, attention="additive", input_feeding=True)


@pytest.mark.parametrize("passes", [None, 2])
def test_finite_differences_without_eos(passes):
    gradcheck_loss(at(0.0, passes=passes), eos=False, attention="aligned", cell="lstm", layers=2)


def test_finite_differences_by_every_single_number():
    gradcheck_loss(at(0.3, alpha=1.5), fast=False, attention="general", input_feeding=True)


def test_the_mean_over_coins_and_noise_by_enumeration():
    """Hard Gumbel samples are samples of the softmax: their mean loss is that of sampled tokens."""
    policy = tiny_policy(3, attention="general", seed=1)
    one = single(tiny_batch(policy, targets=(2, 4, 1, 3)), 1)
    expected = expected_loss(policy, one, 0.6, lambda scores: scores.softmax(-1))
    method = at(0.6, relaxation="soft_sample", straight_through=True)
    found, error = mean_loss(method, policy, one, 4000, CLOCK)
    assert abs(found - expected) < 3 * error
    assert error < 0.02 * expected


def test_noise_is_fresh(monkeypatch):
    """For every example, cell, update and run; and the hard samples follow the policy."""
    policy = tiny_policy(4, eos=False, scale=0.7)
    one = single(tiny_batch(policy, lengths=(3, 1, 2, 2)), 0)
    draws = 4000
    many = one.select(torch.zeros(draws, dtype=torch.long))
    many = type(many)(torch.arange(draws), many.source, many.target, many.mask)
    fed, embed = [], policy.embed

    def spy(weights):
        if weights.is_floating_point():
            fed.append(weights.argmax(-1))
        return embed(weights)

    monkeypatch.setattr(policy, "embed", spy)
    method = at(0.0, relaxation="soft_sample", straight_through=True)
    with torch.no_grad():
        for clock in (Clock(0), Clock(1), Clock(0, seed=1)):
            method.loss(policy, many, clock)
    scores = scores_after(policy, one.source, torch.tensor([[policy.vocabulary.bos]])).detach()
    chances = scores.softmax(-1)
    first = fed[0::2]  # of two fed cells, the first follows bos
    for tokens in first:
        assert chi_square(tokens.bincount(minlength=4), chances * draws) > 0.01
    agree = float(chances.square().sum())
    for tokens in first[1:]:
        same = float((tokens == first[0]).double().mean())
        assert same == pytest.approx(agree, abs=3 * (agree / draws) ** 0.5)


@pytest.mark.parametrize(
    ("settings", "alphas"),
    [
        ({}, {0: 1.0, 50: 1.0, 100: 1.0}),
        ({"alpha": 3.0}, {0: 3.0, 100: 3.0}),
        ({"alpha": 1.0, "alpha_end": 100.0}, {0: 1.0, 50: 10.0, 100: 100.0, 120: 100.0}),
        ({"alpha": 4.0, "alpha_end": 1.0}, {0: 4.0, 50: 2.0, 100: 1.0}),
    ],
)
def test_alpha_follows_its_schedule(settings, alphas):
    method = DifferentiableScheduledSampling(**settings)
    found = {step: method.alpha_at(Clock(step, total=100)) for step in alphas}
    assert found == pytest.approx(alphas)


def test_the_loss_is_at_the_alpha_of_its_update(policy, batch):
    annealed = at(0.3, alpha=0.5, alpha_end=8.0)
    for step in (0, 3, 9):
        clock = Clock(step, total=9)
        fixed = at(0.3, alpha=annealed.alpha_at(clock))
        found = annealed.loss(policy, batch, clock)
        close(found.total, fixed.loss(policy, batch, clock).total)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relaxation": "soft-argmax"},
         "relaxation is 'soft-argmax'; it must be one of soft_argmax, soft_sample"),
        ({"alpha": 0.0}, "alpha is 0.0; it must be finite and above 0"),
        ({"alpha": math.nan}, "alpha is nan; it must be finite and above 0"),
        ({"alpha": math.inf}, "alpha is inf; it must be finite and above 0"),
        ({"alpha_end": -1.0}, "alpha_end is -1.0; it must be finite and above 0"),
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
        ({"passes": 1},
         "passes is 1; it must be at least 2, as the first reads no own token, or left out to "
         "go cell by cell"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range(settings, message):
    with raises(ValueError, message):
        DifferentiableScheduledSampling(**settings)


@pytest.mark.parametrize(
    ("relaxation", "feedback"), [("soft_argmax", "greedy"), ("soft_sample", "sample")]
)
def test_straight_through_needs_a_gradient(relaxation, feedback):
    message = (
        "^straight_through=True needs through=True, as it changes the gradient of the weights; "
        f"without one it is scheduled_sampling with feedback={feedback}$"
    )
    with pytest.raises(ValueError, match=message):
        DifferentiableScheduledSampling(relaxation=relaxation, straight_through=True, through=False)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"through": False}, False),
        ({"straight_through": True}, True),
        ({"straight_through": False}, False),
    ],
)
def test_tokens_are_read_wherever_there_is_a_gradient(settings, expected):
    assert DifferentiableScheduledSampling(**settings).reads_tokens == expected


@pytest.mark.parametrize(
    ("passes", "at_once", "expected"),
    [(None, True, 2), (None, False, None), (0, True, 0), (3, True, 3), (3, False, 3)],
)
def test_passes_depend_on_the_kind_of_model(passes, at_once, expected):
    method = DifferentiableScheduledSampling(passes=passes)
    assert method.for_model(at_once=at_once).passes == expected


def test_no_passes_are_cell_by_cell():
    policy = tiny_policy()
    batch, clock = tiny_batch(policy), Clock(5, 9, 0)
    found = [
        DifferentiableScheduledSampling(passes=passes).loss(policy, batch, clock).total
        for passes in (None, 0)
    ]
    assert torch.equal(*found)
