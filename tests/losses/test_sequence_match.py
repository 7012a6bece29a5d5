"""The loss of SequenceMatch: hand numbers, limits, where gradients flow, what may not matter."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from freerun.losses import Divergence, ScoredActions, behavior_cloning_loss, sequence_match_loss
from tests.helpers import close, raises

NAMES = get_args(Divergence)
NAN = math.nan
FIELDS = ("scores", "values")


def sequence(chosen, values, *, ended=True, dtype=torch.float64):
    """One sequence."""
    return ScoredActions(
        torch.tensor([chosen], dtype=dtype),
        torch.tensor([values], dtype=dtype),
        torch.ones(1, len(chosen), dtype=torch.bool),
        torch.tensor([ended]),
    )


def some(lengths=(3, 1, 4), ended=(True, True, False), *, seed=0, more=0, fill=0.0):
    """Sequences of `lengths`; what must not be looked at is `fill`."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths)[:, None]
    shape = len(lengths), int(lengths.max())
    cells = torch.arange(shape[1] + more + 1)
    chosen = torch.full((shape[0], shape[1] + more), fill, dtype=torch.float64)
    values = torch.full((shape[0], shape[1] + more + 1), fill, dtype=torch.float64)
    there, states = cells[:-1] < lengths, cells <= lengths
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
    chosen[:, : shape[1]] = drawn.where(there[:, : shape[1]], fill)
    drawn = 2 + torch.randn(shape[0], shape[1] + 1, generator=generator, dtype=torch.float64)
    values[:, : shape[1] + 1] = drawn.where(states[:, : shape[1] + 1], fill)
    return ScoredActions(chosen, values, there, torch.tensor(ended))


def differentiable(found):
    for name in FIELDS:
        getattr(found, name).requires_grad_()
    return found


def gradients(loss, *sequences):
    """For each of them, by its scores and by its values."""
    leaves = [getattr(found, name) for found in sequences for name in FIELDS]
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    found = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]
    return [tuple(found[i : i + 2]) for i in range(0, len(found), 2)]


# Hand numbers

DATA = sequence([0.5, -1.0], [1.0, 2.0, 0.7])
MODEL = sequence([0.2], [1.5, -0.4])


@pytest.mark.parametrize(
    ("name", "phi"),
    [
        ("chi2", lambda x: x - x**2 / 4),
        ("kl_model_data", lambda x: 1 - math.exp(-x)),
        ("kl_data_model", lambda x: math.log(1 + x)),
        ("js", lambda x: math.log(2 - math.exp(-x))),
        ("hellinger", lambda x: x / (1 + x)),
        ("tv", lambda x: max(-0.5, min(x, 0.5))),
    ],
)
def test_by_hand(name, phi):
    """α = ¼, γ = 0.9: rewards 0.5 - 1.8, -1 - 0.63, and 0.07 for ever."""
    data = phi(0.25 * -1.3) + 0.9 * phi(0.25 * -1.63) + 0.81 / 0.1 * phi(0.25 * 0.07)
    values = (1 - 1.8) + 0.9 * (2 - 0.63) + 0.81 * 0.7
    assert values == pytest.approx(1.0)
    expected = 4 * data - values / 2 - (1.5 + 0.36 - 0.9 * 0.4) / 2
    loss, share = sequence_match_loss(DATA, MODEL, divergence=name, alpha=0.25, gamma=0.9)
    assert float(loss) == pytest.approx(-expected, abs=1e-12)
    assert float(share) == 0


def test_the_mixture_by_hand():
    data = -1.3 + 0.9 * -1.63 + 0.81 / 0.1 * 0.07
    squares = 1.3**2 + 0.9 * 1.63**2 + 0.81 / 0.1 * 0.07**2
    others = (0.2 + 0.36) ** 2 + 0.9 / 0.1 * 0.04**2
    expected = data - 1.0 / 2 - 1.5 / 2 - 0.25 / 4 * (squares + others)
    loss, _ = sequence_match_loss(DATA, MODEL, alpha=0.25, gamma=0.9)
    assert float(loss) == pytest.approx(-expected, abs=1e-12)


def test_sequences_that_were_cut_short_by_hand():
    """Nothing is absorbed; the value of the last state counts as a next value."""
    data, model = (
        ScoredActions(w.scores, w.values, w.mask, torch.tensor([False])) for w in (DATA, MODEL)
    )
    rewards, squares = -1.3 + 0.9 * -1.63, 1.3**2 + 0.9 * 1.63**2 + 0.56**2
    expected = rewards - (1 - 0.81 * 0.7) / 2 - (1.5 + 0.9 * 0.4) / 2 - 0.25 / 4 * squares
    loss, _ = sequence_match_loss(data, model, alpha=0.25, gamma=0.9)
    assert float(loss) == pytest.approx(-expected, abs=1e-12)


def test_the_share_outside_by_hand():
    """Rewards of -1.3, -1.63 and, after eos, 0.07: against ½, 0.683 and 0.9."""
    for alpha, share in ((0.3, 0), (0.31, 1 / 3), (0.38, 1 / 3), (0.39, 2 / 3), (8.0, 1)):
        _, found = sequence_match_loss(DATA, MODEL, divergence="tv", alpha=alpha, gamma=0.9)
        assert float(found) == pytest.approx(share), alpha
    for name, inside, beyond in (("js", 0.41, 0.43), ("hellinger", 0.55, 0.56)):
        shares = [
            float(sequence_match_loss(DATA, MODEL, divergence=name, alpha=a, gamma=0.9)[1])
            for a in (inside, beyond)
        ]
        assert shares == pytest.approx([0, 1 / 3])


def test_the_reward_after_eos_counts_in_the_share():
    data = sequence([5.0], [1.0, -30.0])
    _, share = sequence_match_loss(data, MODEL, divergence="tv", alpha=1.0, gamma=0.5)
    assert float(share) == 1
    cut = ScoredActions(data.scores, data.values, data.mask, torch.tensor([False]))
    _, share = sequence_match_loss(cut, MODEL, divergence="hellinger", alpha=1.0, gamma=0.5)
    assert float(share) == 0


# Limits


def log_probs(found):
    """log p of every action, 0 on padding."""
    return (found.scores - found.values[:, :-1]).where(found.mask, 0)


def last(found):
    return found.values.gather(1, found.mask.sum(1, keepdim=True))[:, 0]


@pytest.mark.parametrize("name", NAMES)
def test_alpha_0_and_gamma_1_is_maximum_likelihood(name):
    """Value and gradient, where all sequences ended and prompts are the same."""
    data = differentiable(some(ended=(True, True, True)))
    model = some((2, 5, 1), (True, True, True), seed=1)
    model = ScoredActions(
        model.scores,
        torch.cat([data.values[:, :1], model.values[:, 1:]], 1),
        model.mask,
        model.ended,
    )
    loss, _ = sequence_match_loss(data, model, divergence=name, alpha=0.0, gamma=1.0)
    expected = -log_probs(data).sum()
    close(loss, expected)
    close(behavior_cloning_loss(data), expected)
    assert model.values.requires_grad
    for found, other in zip(gradients(loss, data)[0], gradients(expected, data)[0], strict=True):
        close(found, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.998, 1.0])
def test_alpha_0_at_any_gamma(name, gamma):
    """J = Σ γ^t·log p + ½·(V(s_0) - V(u_0)) where sequences ended.

    Where they were cut short, ½·γ^N·V of the last state goes off at the one, and is added at the
    other.
    """
    data, model = some(), some((2, 5, 1, 1), (True, False, True, False), seed=1)
    loss, _ = sequence_match_loss(data, model, divergence=name, alpha=0.0, gamma=gamma)
    powers = gamma ** torch.arange(4, dtype=torch.float64)
    own = (powers * log_probs(data)).sum(1) + data.values[:, 0] / 2
    own = own - (~data.ended) * gamma ** data.mask.sum(1).double() * last(data) / 2
    others = -model.values[:, 0] / 2
    others = others + (~model.ended) * gamma ** model.mask.sum(1).double() * last(model) / 2
    close(loss, -(own.sum() + 3 * others.mean()), 1e-12)


# The telescoping identity, and where model samples carry gradient


def model_half(found, gamma):
    """½·Σ γ^t·(V(u_t) - γ·V(u_{t+1})), and ½·γ^M·V(u_M) of those that ended, moment by moment."""
    total = []
    for values, mask, ended in zip(found.values, found.mask, found.ended, strict=True):
        count = int(mask.sum())
        terms = [gamma**t * (values[t] - gamma * values[t + 1]) for t in range(count)]
        total.append(sum(terms) / 2 + int(ended) * gamma**count * values[count] / 2)
    return torch.stack(total)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"chi2_mixture"}))
def test_complete_samples_give_gradient_to_the_prompt_alone(name):
    """Their half is ½·V(u_0), whatever was written."""
    data, model = some(), differentiable(some((3, 5, 1), (True,) * 3, seed=1))
    close(model_half(model, 0.9), model.values[:, 0] / 2)
    loss, _ = sequence_match_loss(data, model, divergence=name, alpha=0.3, gamma=0.9)
    ((chosen, values),) = gradients(loss, model)
    assert not chosen.any()
    assert not values[:, 1:].any()
    close(values[:, 0], torch.full((3,), 0.5, dtype=torch.float64))  # 3 data, ½, 3 of the model
    other = some((2, 2, 4), (True,) * 3, seed=2)
    other.values[:, 0] = model.values[:, 0].detach()
    again, _ = sequence_match_loss(data, other, divergence=name, alpha=0.3, gamma=0.9)
    close(again, loss)


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_were_cut_short_give_gradient_to_their_last_state_too(name):
    model = differentiable(some((3, 5, 1), (False,) * 3, seed=1))
    loss, _ = sequence_match_loss(some(), model, divergence=name, alpha=0.0, gamma=0.9)
    ((chosen, values),) = gradients(loss, model)
    assert not chosen.any()
    expected = torch.zeros_like(values)
    expected[:, 0] = 0.5
    for row, count in enumerate((3, 5, 1)):
        expected[row, count] = -0.5 * 0.9**count
    close(values, expected)
    close(loss - 3 * model_half(model, 0.9).mean(), sequence_match_loss(
        some(), some((1,), (True,), seed=3), divergence=name, alpha=0.0, gamma=0.9
    )[0] - 3 * some((1,), (True,), seed=3).values[:, 0].mean() / 2)  # fmt: skip


def test_the_penalty_of_the_mixture_gives_gradient_to_all_that_was_written():
    """d/dr of (α/4)·γ^t·r²."""
    data, model = some(), differentiable(some((3, 5, 1), (True,) * 3, seed=1))
    loss, _ = sequence_match_loss(data, model, alpha=0.3, gamma=0.9)
    ((chosen, values),) = gradients(loss, model)
    rewards = (model.scores - 0.9 * model.values[:, 1:]).where(model.mask, 0).detach()
    powers = 0.9 ** torch.arange(5, dtype=torch.float64)
    close(chosen, 3 / 3 * 0.3 / 2 * powers * rewards)
    assert bool(chosen[model.mask].all())
    assert bool(values[:, 1:][model.mask].all())


# Without model sequences


@pytest.mark.parametrize("name", NAMES)
def test_without_model_sequences_the_values_of_the_data_stand_in(name):
    data = some()
    settings = {"alpha": 0.3, "gamma": 0.9}
    found = sequence_match_loss(data, None, divergence=name, **settings)
    plain = "chi2" if name == "chi2_mixture" else name
    expected = sequence_match_loss(data, data, divergence=plain, **settings)
    close(found[0], expected[0])
    close(found[1], expected[1])


# What may not matter

SETTINGS = [{"divergence": name, "alpha": 0.4, "gamma": 0.9} for name in NAMES]


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
@pytest.mark.parametrize("fill", [NAN, math.inf, -math.inf, 1e30])
def test_padding_is_not_looked_at(settings, fill):
    """Neither values nor gradients change, to the bit."""
    found = []
    for other, more in ((0.0, 0), (fill, 0), (fill, 2)):
        data = differentiable(some(more=more, fill=other))
        model = differentiable(some((2, 5), (True, False), seed=1, more=more, fill=other))
        loss, share = sequence_match_loss(data, model, **settings)
        cloning = behavior_cloning_loss(data)
        grads = gradients(loss, data, model) + gradients(cloning, data)
        found.append((loss, share, cloning, grads, data, model))
    loss, share, cloning, grads, *_ = found[0]
    assert bool(loss.isfinite())
    for other_loss, other_share, other_cloning, other_grads, *sequences in found[1:]:
        assert torch.equal(loss, other_loss)
        assert torch.equal(share, other_share)
        assert torch.equal(cloning, other_cloning)
        for (chosen, values), (other_chosen, other_values), scored in zip(
            grads, other_grads, [*sequences, sequences[0]], strict=True
        ):
            width = chosen.shape[1]
            assert torch.equal(chosen, other_chosen[:, :width])
            assert torch.equal(values, other_values[:, : width + 1])
            assert not other_chosen[~scored.mask].any()
            assert not other_values[:, width + 1 :].any()


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_it_is_a_sum_over_data_and_a_mean_over_model_sequences(settings):
    data, model = some(), some((2, 5, 1, 1), (True, False, True, False), seed=1)

    def row(found, i):
        return ScoredActions(*(field[i : i + 1] for field in vars(found).values()))

    pairs = [
        [sequence_match_loss(row(data, i), row(model, j), **settings)[0] for j in range(4)]
        for i in range(3)
    ]
    expected = torch.tensor(pairs, dtype=torch.float64).mean(1).sum()
    close(sequence_match_loss(data, model, **settings)[0], expected)


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_gradcheck(settings):
    """With rewards on both sides of the edges."""
    data, model = differentiable(some()), differentiable(some((2, 5), (True, False), seed=1))

    def loss(*leaves: Tensor):
        first = ScoredActions(leaves[0], leaves[1], data.mask, data.ended)
        second = ScoredActions(leaves[2], leaves[3], model.mask, model.ended)
        return sequence_match_loss(first, second, **settings)[0]

    assert torch.autograd.gradcheck(loss, (data.scores, data.values, model.scores, model.values))


@pytest.mark.parametrize("where", ["data", "model"])
def test_a_number_that_is_none_is_not_hidden(where):
    """In a state that counts, it makes the loss one: no row is passed over."""
    data, model = some(), some((2, 5), (True, False), seed=1)
    {"data": data, "model": model}[where].values[0, 0] = NAN
    loss, _ = sequence_match_loss(data, model, divergence="js")
    assert bool(loss.isnan())


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_to_single(dtype):
    data, model = (
        ScoredActions(w.scores.to(dtype), w.values.to(dtype), w.mask, w.ended)
        for w in (some(), some((2, 5), (True, False), seed=1))
    )
    single = [
        ScoredActions(w.scores.float(), w.values.float(), w.mask, w.ended) for w in (data, model)
    ]
    for settings in SETTINGS:
        found, share = sequence_match_loss(data, model, **settings)
        assert found.dtype == share.dtype == torch.float32
        assert torch.equal(found, sequence_match_loss(*single, **settings)[0])
    cloning = behavior_cloning_loss(data)
    assert cloning.dtype == torch.float32
    assert torch.equal(cloning, behavior_cloning_loss(single[0]))


def test_long_sequences_in_single_precision():
    """1,000 actions: near enough to double precision."""
    lengths, ended = (1000, 700), (True, False)
    data, model = some(lengths, ended), some(lengths, ended, seed=1)
    exact, _ = sequence_match_loss(data, model)
    single = [
        ScoredActions(w.scores.float(), w.values.float(), w.mask, w.ended) for w in (data, model)
    ]
    found, _ = sequence_match_loss(*single)
    assert float(found) == pytest.approx(float(exact), rel=1e-5)


# Walks from scores


def scored(dtype=torch.float64):
    """Scores of the rows of two trees, and the sequences through them: a ⌫ b and b (eos is 2)."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(5, 4, generator=generator, dtype=torch.float64).to(dtype)
    rows = torch.tensor([[True, True, True], [True, True, False]])
    tops = torch.tensor([[0, 1, 0, 2], [0, 1, 1, 1]])
    actions = torch.tensor([[0, 3, 1], [2, -100, 10**6]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    return scores, rows, tops, actions, mask, torch.tensor([False, True])


def test_scored_actions_from_scores():
    scores, rows, tops, actions, mask, ended = scored()
    found = ScoredActions.from_scores(scores, rows, tops, actions, mask, ended)
    values = scores.logsumexp(-1)
    close(found.scores[mask], torch.stack([scores[0, 0], scores[1, 3], scores[0, 1], scores[3, 2]]))
    close(found.values, values[torch.tensor([[0, 1, 0, 2], [3, 4, 4, 4]])])
    assert found.mask is mask
    assert found.ended is ended


def test_rows_that_were_not_asked_for_have_no_scores():
    """Row 1 of the first tree is left out, as no action starts there."""
    scores, rows, _, actions, mask, ended = scored()
    whole = ScoredActions.from_scores(
        scores, rows, torch.tensor([[0, 0, 2, 2], [0, 1, 1, 1]]), actions, mask, ended
    )
    some_rows = torch.tensor([[True, False, True], [True, True, False]])
    left = scores[torch.tensor([0, 2, 3, 4])]
    tops = torch.tensor([[0, 0, 2, 2], [0, 1, 1, 1]])
    found = ScoredActions.from_scores(left, some_rows, tops, actions, mask, ended)
    close(found.scores, whole.scores)
    close(found.values, whole.values)


def test_what_was_not_scored_is_no_number():
    """Cloning does without the last states; a loss that needs what is missing shows it."""
    scores, rows, tops, actions, mask, ended = scored()
    scores.requires_grad_()
    without = rows.clone()
    without[0, 2] = without[1, 1] = False  # the states after the last actions
    found = ScoredActions.from_scores(scores[[0, 1, 3]], without, tops, actions, mask, ended)
    assert found.values.isnan().int().tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]
    whole = ScoredActions.from_scores(scores, rows, tops, actions, mask, ended)
    losses = behavior_cloning_loss(found), behavior_cloning_loss(whole)
    close(*losses)
    close(*[torch.autograd.grad(loss, scores, retain_graph=True)[0] for loss in losses])
    assert bool(sequence_match_loss(found, whole)[0].isnan())
    without[0, 1] = False
    found = ScoredActions.from_scores(scores[[0, 3]], without, tops, actions, mask, ended)
    assert found.scores.isnan().int().tolist() == [[0, 1, 0], [0, 0, 0]]
    assert bool(behavior_cloning_loss(found).isnan())


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_in_half_precision_are_summed_in_single(dtype):
    scores, *rest = scored(dtype)
    found, single = (
        ScoredActions.from_scores(scores, *rest),
        ScoredActions.from_scores(scores.float(), *rest),
    )
    assert found.scores.dtype == found.values.dtype == torch.float32
    assert torch.equal(found.scores, single.scores)
    assert torch.equal(found.values, single.values)


def test_the_gradient_of_cloning_is_that_of_the_log_loss():
    """A row that scores two actions has the gradient of both."""
    scores, *rest = scored()
    scores.requires_grad_()
    (found,) = torch.autograd.grad(
        behavior_cloning_loss(ScoredActions.from_scores(scores, *rest)), scores
    )
    states, actions = torch.tensor([0, 1, 0, 3]), torch.tensor([0, 3, 1, 2])
    plain = torch.nn.functional.cross_entropy(scores[states], actions, reduction="sum")
    close(found, torch.autograd.grad(plain, scores)[0])


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, "alpha is -0.1; it must be finite and at least 0"),
        ({"alpha": NAN}, "alpha is nan; it must be finite and at least 0"),
        ({"alpha": math.inf}, "alpha is inf; it must be finite and at least 0"),
        ({"gamma": 1.1}, "gamma is 1.1; it must lie in [0, 1]"),
        ({"gamma": NAN}, "gamma is nan; it must lie in [0, 1]"),
    ],
)
def test_what_is_refused(settings, message):
    with raises(ValueError, message):
        sequence_match_loss(DATA, MODEL, **settings)


def test_model_sequences_that_are_none():
    """A mean of nothing would be no number."""
    empty = ScoredActions(*(field[:0] for field in vars(MODEL).values()))
    with raises(ValueError, "there is no model sequence; leave model out where there are none"):
        sequence_match_loss(DATA, empty)
