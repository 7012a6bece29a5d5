"""What must not disturb the losses of a cell: untried tokens, zeros, size, precision, bad input."""

import math

import pytest
import torch

from freerun.losses import CELL_LOSSES, kl, ll, target_distribution
from tests.helpers import close, raises
from tests.losses.test_cell_losses import INFINITY, LOG2, NAN, WITH_ALPHA, options, rows


def some(dtype):
    """Scores, costs in half steps and a mask, which half precision can tell."""
    generator = torch.Generator().manual_seed(6)
    scores = torch.randn(7, 5, generator=generator).to(dtype)
    costs = torch.randint(3, (7, 5), generator=generator).double() / 2
    mask = torch.rand(7, 5, generator=generator) > 0.2
    mask[:, 0] = True
    return scores, costs, mask


@pytest.mark.parametrize("name", CELL_LOSSES)
@pytest.mark.parametrize("poison", [NAN, INFINITY, -INFINITY])
def test_what_was_not_tried_is_not_looked_at(name, poison):
    """Neither scores nor costs there change a value or a gradient, to the bit."""
    mask = torch.tensor([[True, False, True, True], [False, True, False, False]])
    scores, costs = rows([1, 2, 3, -1], [4, 5, 6, 7]), rows([0.5, 3, 1, 0.2], [1, 2, 3, 4])
    found = []
    for other in (0.0, poison):
        here = scores.masked_fill(~mask, other).requires_grad_()
        loss = CELL_LOSSES[name](here, costs.masked_fill(~mask, other), mask, **options(name))
        (gradient,) = torch.autograd.grad(loss.sum(), here)
        found.append((loss, gradient))
    (loss, gradient), (poisoned, poisoned_gradient) = found
    assert bool(loss.isfinite().all())
    assert torch.equal(loss, poisoned)
    assert torch.equal(gradient, poisoned_gradient)
    assert not gradient[~mask].any()


@pytest.mark.parametrize("name", CELL_LOSSES)
def test_a_row_does_not_depend_on_the_others(name):
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(5, 6, generator=generator).double()
    costs = torch.rand(5, 6, generator=generator).double()
    mask = torch.rand(5, 6, generator=generator) > 0.4
    mask[:, 2] = True
    whole = CELL_LOSSES[name](scores, costs, mask, **options(name, 7.0))
    for row in range(5):
        one = slice(row, row + 1)
        alone = CELL_LOSSES[name](scores[one], costs[one], mask[one], **options(name, 7.0))
        assert torch.equal(alone, whole[one])
    none = CELL_LOSSES[name](scores[:0], costs[:0], mask[:0], **options(name))
    assert none.shape == (0,)


def zeros():
    """p = (1/2, 1/2, 0, 0) and P_C = (1/2, 0, 1/2, 0), as far as floating point can tell."""
    return rows([0, 0, -1e4, -2e4]).requires_grad_(), rows([0, 1e2, 0, 2e2])


def test_no_logarithm_of_nothing():
    """0·log 0 = 0, in values and gradients."""
    (scores, costs), mask = zeros(), torch.ones(1, 4, dtype=torch.bool)
    for name, value, by_hand in (
        ("kl", LOG2 + 1e4 / 2, [0, 0.5, -0.5, 0]),
        ("inverse_kl", 1e4 / 2, [-2.5e3, 2.5e3, 0, 0]),
        ("js", LOG2 / 2, [-LOG2 / 8, LOG2 / 8, 0, 0]),
    ):
        loss = CELL_LOSSES[name](scores, costs, mask, alpha=100.0)
        (gradient,) = torch.autograd.grad(loss.sum(), scores)
        assert loss.tolist() == pytest.approx([value], abs=1e-9), name
        close(gradient, rows(by_hand), 1e-9)


def test_scores_of_minus_infinity_are_tokens_that_cannot_be():
    mask, costs = torch.ones(1, 3, dtype=torch.bool), rows([0.0, 0.0, 30.0])
    for name in ("ll", "inverse_kl", "js", "llcas"):
        scores = rows([1.0, 1.0, -INFINITY]).requires_grad_()
        loss = CELL_LOSSES[name](scores, costs, mask, **options(name))
        (gradient,) = torch.autograd.grad(loss.sum(), scores)
        assert bool(loss.isfinite().all()), name
        assert bool(gradient.isfinite().all()), name
    scores = rows([1.0, 1.0, -INFINITY]).requires_grad_()
    loss = kl(scores, costs, mask, alpha=100.0)  # P_C of the third is zero in floating point
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    close(loss, torch.tensor([LOG2], dtype=torch.float64))
    assert not gradient.any()


@pytest.mark.parametrize("name", CELL_LOSSES)
def test_large_scores_and_costs_stay_finite(name):
    scores = torch.tensor([[3e4, -3e4, 0.0]], requires_grad=True)
    costs = torch.tensor([[1.0, 0.0, 0.3]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    loss = CELL_LOSSES[name](scores, costs, mask, **options(name, 1e3))
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    assert bool(loss.isfinite().all())
    assert bool(gradient.isfinite().all())


@pytest.mark.kernels
@pytest.mark.parametrize("name", CELL_LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_to_single(name, dtype):
    scores, costs, mask = some(dtype)
    found = CELL_LOSSES[name](scores, costs.to(dtype), mask, **options(name))
    assert found.dtype == torch.float32
    single = CELL_LOSSES[name](scores.float(), costs.float(), mask, **options(name))
    assert torch.equal(found, single)


def test_costs_finer_than_scores_are_compared_before_they_are_rounded():
    """Two costs that differ in double precision alone."""
    costs = rows([1.0 + 1e-12, 1.0])
    found = ll(torch.tensor([[0.0, LOG2]]), costs, torch.tensor([[True, True]]))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([math.log(1.5)])


@pytest.mark.parametrize("name", CELL_LOSSES)
def test_no_gradient_flows_to_costs(name):
    scores, costs, mask = some(torch.float64)
    loss = CELL_LOSSES[name](scores.requires_grad_(), costs.requires_grad_(), mask, **options(name))
    ours, theirs = torch.autograd.grad(loss.sum(), (scores, costs), allow_unused=True)
    assert ours.any()
    assert theirs is None


@pytest.mark.parametrize("name", CELL_LOSSES)
def test_what_is_refused(name):
    scores, costs = rows([1, 2, 3], [4, 5, 6]), rows([1, 2, 3], [4, NAN, 6])
    for mask, message in (
        ([[True, True, True], [False, False, False]],
         "row 1 has no token that was tried; each row needs at least one"),
        ([[True, True, True], [False, True, True]],
         "row 1, column 1: the cost is nan; it must be finite"),
    ):  # fmt: skip
        with raises(ValueError, message):
            CELL_LOSSES[name](scores, costs, torch.tensor(mask), **options(name))


@pytest.mark.parametrize("alpha", [0.0, -1.0, NAN, INFINITY])
def test_alpha_out_of_range(alpha):
    scores, mask = rows([1, 2]), torch.tensor([[True, True]])
    calls = [CELL_LOSSES[name] for name in WITH_ALPHA]
    calls.append(lambda scores, costs, mask, alpha: target_distribution(costs, mask, alpha))
    for call in calls:
        with raises(ValueError, f"alpha is {alpha}; it must be finite and above 0"):
            call(scores, scores, mask, alpha=alpha)
