"""The losses of a cell: hand numbers, definitions in plain Python, finite differences, limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.losses import CELL_LOSSES, kl, ll, log_loss, target_distribution
from tests.helpers import close

WITH_ALPHA = ("kl", "inverse_kl", "js", "llcas", "structured_hinge", "l2")
WITH_TIES = ("ll", "llcas", "structured_hinge")
NAN, INFINITY = math.nan, math.inf
LOG2, LOG4 = math.log(2), math.log(4)


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def options(name, alpha=1.0):
    return {"alpha": alpha} if name in WITH_ALPHA else {}


def cell(name, scores, costs, mask=None, **settings):
    """The loss of a cell of its own."""
    mask = [True] * len(scores) if mask is None else mask
    return float(CELL_LOSSES[name](rows(scores), rows(costs), torch.tensor([mask]), **settings))


def test_the_names_are_those_of_the_functions():
    assert all(function.__name__ == name for name, function in CELL_LOSSES.items())


# With p = (1/4, 1/4, 1/2), costs (5, 5 + log 2, 5 + log 4) and α = 1: P_C = (4/7, 2/7, 1/7).
P = [math.log(1 / 4), math.log(1 / 4), math.log(1 / 2)]
C = [5.0, 5 + LOG2, 5 + LOG4]
M = [23 / 56, 15 / 56, 9 / 28]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ll", LOG4),
        ("kl", 4 / 7 * LOG4 + 2 / 7 * LOG4 + 1 / 7 * LOG2),
        ("inverse_kl", math.log(7 / 16) / 4 + math.log(7 / 8) / 4 + math.log(7 / 2) / 2),
        ("js", (sum(p * math.log(p / m) for p, m in zip((1 / 4, 1 / 4, 1 / 2), M, strict=True))
             + sum(q * math.log(q / m) for q, m in zip((4 / 7, 2 / 7, 1 / 7), M, strict=True)) )
         / 2),
        ("llcas", math.log((1 + 2 + 8) / 1)),  # exp(s + c - 5)·4 = (1, 2, 8)
        ("structured_hinge", math.log(8)),
        (
            "consistent",  # s̃ = s - mean, with exp(mean) = 32^(-1/3)
            LOG2 * math.log(1 + 32 ** (1 / 3) / 4) + LOG4 * math.log(1 + 32 ** (1 / 3) / 2),
        ),
        ("l2", (math.log(1 / 4) - LOG2) ** 2 + LOG4**2 + (math.log(1 / 2) + LOG2) ** 2),
    ],
)  # fmt: skip
def test_by_hand(name, value):
    assert cell(name, P, C, **options(name)) == pytest.approx(value, abs=1e-13)


def test_the_target_distribution_by_hand():
    mask = torch.tensor([[True, True, True, False]])
    costs = rows([*C, NAN])
    close(target_distribution(costs, mask, 1.0), rows([4 / 7, 2 / 7, 1 / 7, 0]))
    close(target_distribution(costs, mask, 2.0), rows([16 / 21, 4 / 21, 1 / 21, 0]))
    close(target_distribution(costs, mask, 1e6), rows([1, 0, 0, 0]))
    assert target_distribution(costs.half(), mask, 1.0).dtype == torch.float32


def definition(name, s, c, alpha, favourite):
    """The loss of lists of tried scores and costs, read off the paper."""
    tried, c = range(len(s)), [cost - min(c) for cost in c]
    star = min(
        (cost, -favour, i) for i, (cost, favour) in enumerate(zip(c, favourite, strict=True))
    )[2]
    p = [math.exp(x) / sum(math.exp(y) for y in s) for x in s]
    q = [math.exp(-alpha * x) / sum(math.exp(-alpha * y) for y in c) for x in c]
    augmented = [s[i] + alpha * c[i] for i in tried]
    if name == "ll":
        return -math.log(p[star])
    if name == "kl":
        return -sum(q[i] * math.log(p[i]) for i in tried)
    if name == "inverse_kl":
        return sum(x * (math.log(x) - math.log(y)) for x, y in zip(p, q, strict=True))
    if name == "js":
        m = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
        to_ours = sum(x * math.log(x / z) for x, z in zip(p, m, strict=True))
        to_target = sum(y * math.log(y / z) for y, z in zip(q, m, strict=True) if y)
        return (to_ours + to_target) / 2
    if name == "llcas":
        return -math.log(math.exp(augmented[star]) / sum(math.exp(x) for x in augmented))
    if name == "structured_hinge":
        return max(augmented) - augmented[star]
    if name == "consistent":
        mean = sum(s) / len(s)
        return sum(c[i] * math.log(1 + math.exp(s[i] - mean)) for i in tried)
    return sum((s[i] + alpha * (c[i] - max(c) / 2)) ** 2 for i in tried)


NUMBERS = st.floats(-4, 4)


@st.composite
def cells(draw):
    """Some cells: scores, costs with ties, what was tried (a token at least), and favourites."""
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 5))

    def table(elements):
        return draw(st.lists(st.lists(elements, min_size=k, max_size=k), min_size=n, max_size=n))

    scores, costs = table(NUMBERS), table(st.integers(-4, 4).map(lambda c: c / 4))
    mask = torch.tensor(table(st.booleans()))
    mask[torch.arange(n), torch.tensor([draw(st.integers(0, k - 1)) for _ in range(n)])] = True
    order = [draw(st.permutations(range(k))) for _ in range(n)]
    return rows(*scores), rows(*costs), mask, rows(*order)


@pytest.mark.parametrize("name", CELL_LOSSES)
@given(cells=cells(), alpha=st.floats(0.1, 5), favoured=st.booleans())
@settings(deadline=None, max_examples=30)
def test_they_are_what_the_paper_defines(name, cells, alpha, favoured):
    scores, costs, mask, favourite = cells
    chosen = {**options(name, alpha)}
    if not favoured or name not in WITH_TIES:
        favourite = torch.zeros_like(favourite)
    elif name in WITH_TIES:
        chosen["ties"] = favourite
    unseen = costs.masked_fill(~mask, NAN)
    found = CELL_LOSSES[name](scores, unseen, mask, **chosen)
    assert found.shape == (len(scores),)
    for row in range(len(scores)):
        tried = mask[row]
        lists = [table[row][tried].tolist() for table in (scores, costs)]
        expected = definition(name, *lists, alpha, favourite[row][tried].tolist())
        assert float(found[row]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", CELL_LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    chosen = options(name, 1.7)
    scores = rows([0.3, -1.2, 0.8, 0.1], [1.5, 0.2, -0.7, 0.4], [0.1, 0.2, 0.3, 0.4])
    costs = rows([0.2, 0.9, 0.0, 0.5], [0.3, 0.3, INFINITY, 0.1], [NAN, 0.7, NAN, INFINITY])
    mask = costs.isfinite()
    function = CELL_LOSSES[name]
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: function(s, costs, mask, **chosen), scores)


def test_one_tried_token_has_nothing_to_teach():
    for name in CELL_LOSSES:
        found = cell(name, [3.0, 1.0, 2.0], [0.5, 0, 0], [True, False, False], **options(name))
        assert found == (9.0 if name == "l2" else 0.0), name


def test_equal_costs():
    """Nothing is better than anything: what is pulled to P_C is pulled to the uniform."""
    costs = [0.7] * 3
    assert cell("ll", P, costs) == pytest.approx(LOG4)
    assert cell("llcas", P, costs, alpha=9.0) == pytest.approx(LOG4)
    assert cell("kl", P, costs, alpha=9.0) == pytest.approx(5 / 3 * LOG2)
    assert cell("kl", [2.0] * 3, costs, alpha=9.0) == pytest.approx(math.log(3))
    assert cell("inverse_kl", [2.0] * 3, costs, alpha=9.0) == pytest.approx(0, abs=1e-15)
    assert cell("js", [2.0] * 3, costs, alpha=9.0) == pytest.approx(0, abs=1e-15)
    assert cell("structured_hinge", P, costs, alpha=9.0) == pytest.approx(LOG2)
    assert cell("consistent", P, costs) == 0
    assert cell("l2", [1.0, 2.0, 3.0], costs, alpha=9.0) == 14


def test_ties_are_broken_by_the_largest_value():
    """Only among the tokens of least cost that were tried; the first where nothing is said."""
    scores, costs, mask = [1.0, 2, 3, 4], [0.2, 0.2, 0.9, 0.2], [True, True, True, False]
    values = {
        None: cell("structured_hinge", scores, costs, mask, alpha=1.0),
        **{
            ties: cell("structured_hinge", scores, costs, mask, alpha=1.0, ties=rows(list(ties)))
            for ties in ((0.5, 0.6, 0.9, 0.9), (0.6, 0.5, 0.9, 0.9), (-5.0, -4.0, 0.0, NAN))
        },
    }
    expected = [2.7, 1.7, 2.7, 1.7]  # 3 + 0.7 - s(a*)
    assert list(values.values()) == pytest.approx(expected, abs=1e-14)


def test_bounds():
    generator = torch.Generator().manual_seed(4)
    scores = 5 * torch.randn(500, 6, generator=generator).double()
    costs = torch.rand(500, 6, generator=generator).double()
    mask = torch.rand(500, 6, generator=generator) > 0.3
    mask[:, 0] = True
    found = {
        name: function(scores, costs, mask, **options(name, 20.0))
        for name, function in CELL_LOSSES.items()
    }
    assert all(bool((loss >= -1e-12).all()) for loss in found.values())
    assert bool((found["js"] <= LOG2).all())
    assert bool((found["llcas"] >= found["structured_hinge"]).all())
    target = target_distribution(costs, mask, 20.0)
    close(target.sum(-1), torch.ones(500, dtype=torch.float64))
    entropy = -torch.xlogy(target, target).sum(-1)
    assert bool((found["kl"] >= entropy - 1e-12).all())


@pytest.mark.parametrize("name", ["kl", "inverse_kl", "js"])
def test_the_target_is_where_they_are_least(name):
    costs, mask = rows([0.3, 0.1, 0.7]), torch.ones(1, 3, dtype=torch.bool)
    scores = (-4.0 * costs).requires_grad_()
    (gradient,) = torch.autograd.grad(CELL_LOSSES[name](scores, costs, mask, alpha=4.0), scores)
    close(gradient, torch.zeros_like(gradient))


# Where the cost of a token is whether it is wrong, as under Hamming cost and reference roll-outs.
CELLS, V, LENGTH = 7, 5, 8


def hamming_cells():
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(CELLS, V, generator=generator).double().requires_grad_()
    targets = torch.randint(V, (CELLS,), generator=generator)
    wrong = (torch.arange(V) != targets[:, None]).double()
    return scores, targets, wrong, torch.ones(CELLS, V, dtype=torch.bool)


@pytest.mark.parametrize("scale", [1.0, 1 / LENGTH])
def test_ll_of_hamming_costs_is_the_log_loss(scale):
    """To the bit, and whatever stands in the ties, as there are none."""
    scores, targets, wrong, mask = hamming_cells()
    found = ll(scores, wrong * scale + 3 * scale, mask, ties=scores.detach())
    expected = log_loss(scores, targets)
    assert torch.equal(found.sum(), expected)
    ours, theirs = (torch.autograd.grad(loss, scores)[0] for loss in (found.sum(), expected))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("alpha", "scale"), [(0.5, 1.0), (3.0, 1.0), (40.0, 1 / LENGTH)])
def test_kl_of_hamming_costs_is_label_smoothing(alpha, scale):
    scores, targets, wrong, mask = hamming_cells()
    weight = math.exp(-alpha * scale)
    expected = log_loss(scores, targets, smoothing=V * weight / (1 + (V - 1) * weight))
    found = kl(scores, wrong * scale, mask, alpha=alpha).sum()
    close(found, expected)
    ours, theirs = (torch.autograd.grad(loss, scores)[0] for loss in (found, expected))
    close(ours, theirs)
