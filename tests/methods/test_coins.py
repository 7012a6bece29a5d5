"""The coins of scheduled sampling: their schedules, and that they are fair and independent."""

import math

import pytest
import torch

from freerun.batch import Batch, Source
from freerun.methods import Clock, DifferentiableScheduledSampling, ScheduledSampling
from freerun.vocabulary import Vocabulary
from tests.helpers import agreement, chi_square, raises, searnn


def batch_of(rows, cells, ids=None):
    ones = torch.ones(rows, cells, dtype=torch.bool)
    ids = torch.arange(rows) if ids is None else ids
    return Batch(ids, Source(ones.long(), ones), ones.long(), ones)


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({"schedule": "constant", "k": 0.3}, {0: 0.3, 50: 0.3, 100: 0.3}),
        ({"schedule": "linear"}, {0: 1.0, 50: 0.5, 100: 0.0}),
        ({"schedule": "linear", "floor": 0.2}, {0: 1.0, 50: 0.6, 100: 0.2}),
        ({"schedule": "linear", "k": 0.8, "floor": 0.2}, {0: 0.8, 50: 0.5, 100: 0.2}),
        ({"schedule": "linear", "c": 0.02}, {0: 1.0, 25: 0.5, 50: 0.0, 100: 0.0}),
        ({"schedule": "linear", "k": 0.9, "c": 0.01, "floor": 0.5}, {0: 0.9, 20: 0.7, 60: 0.5}),
        ({"schedule": "exponential"}, {0: 1.0, 50: 0.1, 100: 0.01}),
        ({"schedule": "exponential", "k": 0.9, "floor": 0.3}, {0: 1.0, 5: 0.9**5, 100: 0.3}),
        ({}, {50: 0.5}),
        ({"schedule": "inverse_sigmoid", "k": 20.0}, {0: 20 / 21, 100: 20 / (20 + math.e**5)}),
        ({"k": 20.0, "floor": 0.4}, {0: 20 / 21, 100: 0.4}),
    ],
    ids=str,
)
def test_shares_of_the_reference(settings, shares):
    coins = ScheduledSampling(**settings)
    found = {step: coins.reference_share(Clock(step, total=100)) for step in shares}
    assert found == pytest.approx(shares, abs=1e-9)


@pytest.mark.parametrize("total", [1, 2, 100, 10**6])
@pytest.mark.parametrize("schedule", ["linear", "exponential", "inverse_sigmoid"])
def test_what_is_left_out_is_fitted_to_the_run(schedule, total):
    coins = ScheduledSampling(schedule=schedule)
    steps = sorted({round(total * i / 20) for i in range(21)})
    shares = [coins.reference_share(Clock(step, total=total)) for step in steps]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share <= 1 for share in shares)
    ends = {"linear": 0.0, "exponential": 0.01}
    if schedule in ends:
        assert shares[-1] == pytest.approx(ends[schedule])
    else:
        assert coins.reference_share(Clock(total // 2, total=total)) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("schedule", ["linear", "exponential", "inverse_sigmoid"])
def test_past_the_run_the_share_stays(schedule):
    coins = ScheduledSampling(schedule=schedule)
    assert coins.reference_share(Clock(step=200, total=100)) == coins.reference_share(
        Clock(step=100, total=100)
    )
    assert coins.reference_share(Clock(step=100, total=100)) < coins.reference_share(
        Clock(step=50, total=100)
    )


@pytest.mark.parametrize("method", [ScheduledSampling(), DifferentiableScheduledSampling()])
def test_the_default_falls_from_all_to_nothing(method):
    batch = batch_of(200, 50)
    shares = [
        float(method.draw_own(batch, Clock(step, total=1000)).float().mean()) for step in (0, 999)
    ]
    assert shares[0] < 0.02
    assert shares[1] > 0.9


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 0.75, 1.0])
def test_every_token_of_every_sentence_has_its_own(epsilon):
    """Own tokens are as many as ε says, at every cell, and sentences and cells differ."""
    rows, cells = 2000, 9
    own = ScheduledSampling(schedule="constant", k=epsilon).draw_own(batch_of(rows, cells), Clock())
    assert not own[:, 0].any()
    counts = own[:, 1:].sum(0)
    if epsilon in (0.0, 1.0):
        assert counts.tolist() == [rows * (1 - epsilon)] * (cells - 1)
        return
    for count in counts:
        observed = torch.stack([count, rows - count])
        assert chi_square(observed, torch.tensor([1 - epsilon, epsilon]) * rows) > 0.001
    lengths = own[:, 1:].sum(1).bincount(minlength=cells).tolist()
    binomial = [math.comb(8, n) * (1 - epsilon) ** n * epsilon ** (8 - n) for n in range(cells)]
    assert agreement(dict(enumerate(lengths)), dict(enumerate(binomial))) > 0.001


def independent(first, second):
    """Whether two tables of coins at ε = 0.5 agree as often as independent ones do."""
    pairs = (2 * first.long() + second.long()).flatten().bincount(minlength=4)
    return chi_square(pairs, torch.full((4,), first.numel() / 4)) > 0.01


def test_coins_are_independent():
    coins = ScheduledSampling(schedule="constant", k=0.5)
    rows = 2000
    own = coins.draw_own(batch_of(rows + 1, 12), Clock(5))[:, 1:]
    for apart in (1, 2, 5):
        assert independent(own[:, apart:], own[:, :-apart])
    assert independent(own[1:], own[:-1])
    assert independent(own[1:, 1:], own[:-1, :-1])
    for clock in (Clock(6), Clock(5, seed=1), Clock(1, seed=5)):
        assert independent(own, coins.draw_own(batch_of(rows + 1, 12), clock)[:, 1:])


def test_the_batch_moves_no_coin():
    """Padding, order, size: a coin is named by example, cell, update and seed."""
    coins = ScheduledSampling(schedule="constant", k=0.5)
    ids = torch.tensor([90, 4, 13, 55, 21])
    own = coins.draw_own(batch_of(5, 7, ids), Clock(3, seed=2))
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(coins.draw_own(batch_of(5, 7, ids[order]), Clock(3, seed=2)), own[order])
    assert torch.equal(coins.draw_own(batch_of(5, 30, ids), Clock(3, seed=2))[:, :7], own)
    for row in range(5):
        alone = batch_of(1, 7, ids[row : row + 1])
        assert torch.equal(coins.draw_own(alone, Clock(3, total=9, seed=2))[0], own[row])


def test_padding_has_no_coin():
    batch = batch_of(50, 6)
    mask = torch.arange(6) < (1 + torch.arange(50) % 6)[:, None]
    ragged = Batch(batch.ids, batch.source, batch.target, mask)
    coins = ScheduledSampling(schedule="constant", k=0.5)
    assert torch.equal(coins.draw_own(ragged, Clock()), coins.draw_own(batch, Clock()) & mask)


def test_both_methods_meet_the_same_coins():
    """So that runs of the same seed can be compared pair by pair."""
    batch, settings = batch_of(50, 6), {"schedule": "constant", "k": 0.5}
    greedy, relaxed = ScheduledSampling(**settings), DifferentiableScheduledSampling(**settings)
    assert torch.equal(greedy.draw_own(batch, Clock(1)), relaxed.draw_own(batch, Clock(1)))


NAMES = "linear, exponential, inverse_sigmoid, constant"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "cosine"}, f"schedule is 'cosine'; it must be one of {NAMES}"),
        ({"schedule": "constant"}, "schedule=constant needs k, the share of reference tokens"),
        ({"schedule": "constant", "k": 0.5, "floor": 0.1},
         "floor has no effect on schedule=constant; set k"),
        ({"c": 0.1}, "c is the slope of schedule=linear; inverse_sigmoid has none"),
        ({"schedule": "constant", "k": 0.1, "c": 0.1},
         "c is the slope of schedule=linear; constant has none"),
        ({"schedule": "linear", "c": -0.1}, "c is -0.1; it must be finite and at least 0"),
        ({"schedule": "linear", "c": math.nan}, "c is nan; it must be finite and at least 0"),
        ({"schedule": "linear", "c": math.inf}, "c is inf; it must be finite and at least 0"),
        ({"floor": 1.5}, "floor is 1.5; it must lie in [0, 1]"),
        ({"floor": math.nan}, "floor is nan; it must lie in [0, 1]"),
        ({"k": 0.5}, "k is 0.5; for schedule=inverse_sigmoid it must lie in [1, inf]"),
        ({"k": math.nan}, "k is nan; for schedule=inverse_sigmoid it must lie in [1, inf]"),
        ({"schedule": "exponential", "k": 1.5},
         "k is 1.5; for schedule=exponential it must lie in [0, 1]"),
        ({"schedule": "linear", "k": -1.0}, "k is -1.0; for schedule=linear it must lie in [0, 1]"),
        ({"schedule": "linear", "k": 0.2, "floor": 0.5},
         "k is 0.2, where schedule=linear starts, below floor 0.5"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_settings_that_cannot_be(settings, message):
    for method in (ScheduledSampling, DifferentiableScheduledSampling):
        with raises(ValueError, message):
            method(**settings)


def test_a_run_has_updates():
    message = r"^Clock.total is 0; at least one update must be planned$"
    with pytest.raises(ValueError, match=message):
        Clock(total=0)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (ScheduledSampling(), "scheduled sampling"),
        (DifferentiableScheduledSampling(), "scheduled sampling"),
        (searnn(cost="edit_distance"), "searnn"),
    ],
)
def test_own_tokens_may_not_be_backspaces(method, name):
    method.check(Vocabulary.build("ab", eos=True))
    message = (
        f"{name} cannot train a model with a backspace, which it would read as a token; use "
        "behavior_cloning, sequence_match, mle or unlikelihood"
    )
    with raises(ValueError, message):
        method.check(Vocabulary.build("ab", eos=True).with_backspace())
