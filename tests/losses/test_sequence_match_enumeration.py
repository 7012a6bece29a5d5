"""The loss, averaged over all action sequences, is the objective of the occupancies."""

from typing import get_args

import pytest
import torch

from freerun.losses import Divergence, ScoredActions, psi, sequence_match_loss
from tests.helpers import close
from tests.losses.tabular import Table, objective

NAMES = get_args(Divergence)


def losses_of(data, model, **settings):
    """The loss of each data sequence with each model sequence, row by row."""

    def one(*fields):
        first, second = (
            ScoredActions(*(field[None] for field in part)) for part in (fields[:4], fields[4:])
        )
        return sequence_match_loss(first, second, **settings)[0]

    return torch.vmap(one)(*vars(data).values(), *vars(model).values())


def expected_loss(scored, data, model, **settings):
    """Σ_d p(d)·Σ_m q(m)·loss(d, m) over all sequences: data and model terms add up."""
    sequences = scored.sequences()
    found = scored.score_actions(sequences)
    first = ScoredActions(*(field[:1].expand_as(field) for field in vars(found).values()))
    common = losses_of(first, first, **settings)[0]
    p, q = (torch.stack([t.probability(s) for s in sequences]) for t in (data, model))
    of_data = losses_of(found, first, **settings) - common
    of_model = losses_of(first, found, **settings) - common
    return common + p @ of_data + q @ of_model


def tables(letters, limit):
    """What is judged, what data are drawn from, and what an older model wrote."""
    return [Table.random(letters, limit, seed=seed) for seed in range(3)]


def check(letters, limit, name, alpha, gamma):
    """Values and gradients are those of the occupancies."""
    scored, data, model = tables(letters, limit)
    scored.scores.requires_grad_()
    found = expected_loss(scored, data, model, divergence=name, alpha=alpha, gamma=gamma)
    expected = -objective(
        scored, data, model, lambda x: x * psi(x, name),
        alpha=alpha, gamma=gamma, mixture=name == "chi2_mixture",
    )  # fmt: skip
    close(found, expected, 1e-11)
    gradients = [torch.autograd.grad(each, scored.scores)[0] for each in (found, expected)]
    close(*gradients, 1e-11)
    assert float(gradients[0].abs().max()) > 1e-3


def test_sequences_are_all_there_are():
    """Those that ended, and those cut short at the limit; their probabilities add up to one."""
    for letters, limit, count in (("a", 6, 63 + 64), ("ab", 4, 40 + 81), ("", 3, 3 + 1)):
        table = Table.random(letters, limit, seed=5)
        sequences = table.sequences()
        assert len(sequences) == count
        assert sum(float(table.probability(s)) for s in sequences) == pytest.approx(1, abs=1e-12)
        cut = [states for _, states in sequences if not states[-1].endswith("$")]
        assert all(len(states) == limit + 1 for states in cut)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.2, 0.9), (1.5, 0.6), (0.01, 0.95)])
def test_all_sequences_of_six_actions(name, alpha, gamma):
    """One letter, eos and backspace."""
    check("a", 6, name, alpha, gamma)


@pytest.mark.parametrize("name", NAMES)
def test_all_sequences_over_two_letters(name):
    check("ab", 4, name, 0.4, 0.8)


@pytest.mark.parametrize("name", ["chi2_mixture", "js"])
def test_all_sequences_of_six_actions_over_two_letters(name):
    """1,093 sequences."""
    check("ab", 6, name, 0.4, 0.8)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_special_about_alpha_0_and_gamma_1(name):
    """They are the limits of values and gradients next to them."""
    scored, data, model = tables("a", 4)
    scored.scores.requires_grad_()
    for at, near in (
        ((0.0, 0.9), (1e-9, 0.9)),
        ((0.3, 1.0), (0.3, 1 - 1e-9)),
        ((0.0, 1.0), (1e-9, 1 - 1e-9)),
    ):
        found = []
        for alpha, gamma in (at, near):
            settings = {"divergence": name, "alpha": alpha, "gamma": gamma}
            loss = expected_loss(scored, data, model, **settings)
            found.append((loss.detach(), torch.autograd.grad(loss, scored.scores)[0]))
        (value, gradient), (limit, limit_gradient) = found
        close(value, limit, 1e-6)
        close(gradient, limit_gradient, 1e-6)


def test_the_best_table_writes_as_the_data_do():
    """With α = 0 and γ = 1, J is greatest where the policy is that of the data.

    All of the data end; of states that they never reach, nothing is learnt.
    """
    _, data, _ = tables("a", 3)
    data.scores[:, 1] += 2  # eos is likely
    sequences = [s for s in data.sequences() if s[1][-1].endswith("$")]
    weights = torch.stack([data.probability(s) for s in sequences])
    weights = weights / weights.sum()
    scored = Table.random("a", 3, seed=9)
    scored.scores.requires_grad_()
    optimizer = torch.optim.LBFGS([scored.scores], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        found = scored.score_actions(sequences)
        total = weights @ losses_of(found, found, alpha=0.0, gamma=1.0)
        total.backward()
        return total

    optimizer.step(loss)
    numbers = scored.states
    counts = torch.zeros_like(scored.scores.detach())
    for weight, (taken, states) in zip(weights, sequences, strict=True):
        for action, state in zip(taken, states, strict=False):
            counts[numbers[state], action] += weight
    for state in ("", "a", "aa"):
        learnt = scored.scores[numbers[state]].softmax(-1).detach()
        close(learnt, counts[numbers[state]] / counts[numbers[state]].sum(), 1e-4)


def test_scored_actions_are_those_of_the_states_of_a_sequence():
    """The values are the table's, state by state."""
    table = Table.random("ab", 3, seed=2)
    values, sequences = table.scores.logsumexp(-1), table.sequences()
    found = table.score_actions(sequences)
    for row, (taken, states) in enumerate(sequences):
        rows, length = [table.states[state] for state in states], len(taken)
        assert found.mask[row].tolist() == [cell < length for cell in range(3)]
        close(found.values[row, : length + 1], values[rows])
        close(found.scores[row, :length], table.scores[rows[:-1], taken])
        assert bool(found.ended[row]) == states[-1].endswith("$")
