"""Each φ: by hand, at 0, by finite differences, as the divergence it names, and where it ends."""

import math
from typing import get_args

import pytest
import torch

from freerun.losses import Divergence, outside_domain, psi
from freerun.losses.divergences import check_divergence
from tests.helpers import close, raises

NAMES = get_args(Divergence)
PLAIN = {
    "chi2_mixture": lambda x: x,
    "chi2": lambda x: x - x**2 / 4,
    "kl_model_data": lambda x: 1 - math.exp(-x),
    "kl_data_model": lambda x: math.log(1 + x),
    "js": lambda x: math.log(2 - math.exp(-x)),
    "hellinger": lambda x: x / (1 + x),
    "tv": lambda x: min(x, 0.5),
}
"""Each φ as written down."""
EDGES = {
    "kl_model_data": -math.log(100),
    "kl_data_model": -0.99,
    "js": math.log(0.505),
    "hellinger": -0.9,
    "tv": -0.5,
}
"""Where each goes on as a line."""


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def phi(x, name):
    return x * psi(x, name)


def slope(x, name):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(phi(x, name).sum(), x)[0]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_is_written_down(name):
    low = max(EDGES.get(name, -3.0), -3.0)
    values = [low + (6 - low) * i / 400 for i in range(401)] + [1e-9, -1e-9, 0.0499, 0.0501, -0.05]
    expected = [PLAIN[name](x) for x in values]
    close(phi(numbers(*values), name), numbers(*expected), 1e-13)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_at_0(name, dtype):
    """φ(0) = 0 and φ'(0) = 1; ψ(0) = 1, and ψ'(0) = ½·φ''(0)."""
    x = torch.zeros(1, dtype=dtype, requires_grad=True)
    value, accuracy = psi(x, name), 1e-15 if dtype == torch.float64 else 1e-6
    assert value.tolist() == pytest.approx([1], abs=accuracy)
    curvature = {"chi2_mixture": 0, "chi2": -0.5, "hellinger": -2, "js": -2, "tv": 0}.get(name, -1)
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert float(gradient) == pytest.approx(curvature / 2, abs=accuracy)
    else:
        assert curvature == 0
    assert phi(x, name).tolist() == [0]
    assert float(slope(x.detach(), name)) == pytest.approx(1, abs=accuracy)


@pytest.mark.parametrize("name", NAMES)
def test_no_digits_are_lost_near_0(name):
    """In single precision, values and gradients of ψ are those of double precision."""
    x = torch.cat([torch.logspace(-12, 0, 200), -torch.logspace(-12, -0.4, 200)])
    found = []
    for dtype in (torch.float32, torch.float64):
        here = x.to(dtype).requires_grad_()
        value = psi(here, name)
        gradient = torch.zeros_like(here)
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.sum(), here)
        found.append((value.detach().double(), gradient.double()))
    (value, gradient), (exact, exact_gradient) = found
    torch.testing.assert_close(value, exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, exact_gradient, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    """Inside, near 0 on both sides of the switch, and on the line."""
    x = numbers(-300, -7, -4.7, -1.2, -0.88, -0.3, -0.051, -0.049, -1e-3, 0, 1e-3, 0.049, 0.051)
    x = torch.cat([x, numbers(0.3, 0.7, 2.5, 20)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: phi(x, name), x, eps=1e-5)
    x = x.detach()[x != 0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: psi(x, name) + 0 * x, x, eps=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_concave(name):
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    slopes = slope(x, name)
    assert float((slopes[1:] - slopes[:-1]).max()) < 1e-9


@pytest.mark.parametrize("name", EDGES)
def test_it_goes_on_as_a_line_of_slope_100(name):
    edge = EDGES[name]
    x = numbers(edge - 1e-9, edge - 0.5, edge - 40, edge - 1e6)
    assert slope(x, name).tolist() == pytest.approx([100] * 4, rel=1e-9)
    close(phi(x, name), PLAIN[name](edge) + 100 * (x - edge), 1e-6)


@pytest.mark.parametrize("name", sorted(EDGES.keys() - {"tv"}))
def test_the_line_is_a_tangent(name):
    """Value and slope are the same on both sides of the edge."""
    sides = numbers(EDGES[name] - 1e-9, EDGES[name] + 1e-9)
    left, right = phi(sides, name).tolist()
    assert right - left == pytest.approx(2e-7, rel=1e-4)
    assert slope(sides, name).tolist() == pytest.approx([100, 100], rel=1e-5)


def test_total_variation_is_continuous_at_its_corners():
    for corner, slopes in ((-0.5, [100, 1]), (0.5, [1, 0])):
        sides = numbers(corner - 1e-9, corner + 1e-9)
        close(phi(sides, "tv"), numbers(corner, corner), 2e-7)
        assert slope(sides, "tv").tolist() == pytest.approx(slopes, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_outside(name):
    edge = EDGES.get(name, -math.inf)
    x = [-1e9, -5, -1, -0.95, -0.6, -0.4, 0, 0.4, 0.6, 1e9]
    beyond = [value < edge or (name == "tv" and value > 0.5) for value in x]
    assert outside_domain(numbers(*x), name).tolist() == beyond


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_value_is_too_large(name, dtype):
    """Values and gradients are finite however far outside, and where others are not chosen."""
    x = torch.tensor([-1e30, -1e4, -1, -0.99, 0, 1, 1e4, 1e30], dtype=dtype).requires_grad_()
    value = psi(x, name)
    assert bool(value.isfinite().all())
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert bool(gradient.isfinite().all())


def divergence_of(name, p, q):
    """The divergence that a name means, between distributions, in plain words."""
    both = list(zip(p, q, strict=True))

    def kl(first, second):
        return sum(a * math.log(a / b) for a, b in zip(first, second, strict=True) if a)

    mean = [(a + b) / 2 for a, b in both]
    return {
        "chi2_mixture": 2 * sum((a - m) ** 2 / m for a, m in zip(p, mean, strict=True)),
        "chi2": sum((a - b) ** 2 / a for a, b in both),
        "kl_model_data": kl(q, p),
        "kl_data_model": kl(p, q),
        "js": kl(p, mean) + kl(q, mean),
        "hellinger": sum((math.sqrt(a) - math.sqrt(b)) ** 2 for a, b in both),
        "tv": sum(abs(a - b) for a, b in both) / 2,
    }[name]


P, Q = [0.5, 0.2, 0.25, 0.05], [0.1, 0.45, 0.25, 0.2]
OPTIMA = {
    "chi2_mixture": lambda p, q: 2 * (p - q) / (p + q),
    "chi2": lambda p, q: 2 * (1 - q / p),
    "kl_model_data": lambda p, q: math.log(p / q),
    "kl_data_model": lambda p, q: p / q - 1,
    "js": lambda p, q: math.log((p + q) / (2 * q)),
    "hellinger": lambda p, q: math.sqrt(p / q) - 1,
    "tv": lambda p, q: 0.5 if p > q else -0.5,
}
"""Where the supremum is attained: φ'(x) = q/p."""


def variational(x, name, p, q):
    """E_p[φ(x)] - E_q[x], with the penalty of the mixture."""
    value = p @ phi(x, name) - q @ x
    if name == "chi2_mixture":
        value = value - ((p + q) * x**2).sum() / 4
    return value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("p", "q"), [(P, Q), (Q, P), (P, P)])
def test_the_supremum_is_the_divergence(name, p, q):
    """At the optimum known in closed form, and for no x of a grid or at random is it more."""
    data, model = numbers(*p), numbers(*q)
    best = numbers(*[OPTIMA[name](a, b) for a, b in zip(p, q, strict=True)])
    divergence = divergence_of(name, p, q)
    assert float(variational(best, name, data, model)) == pytest.approx(divergence, abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-3, 0.1, 1, 10, 1000):
        for _ in range(50):
            step = scale * torch.randn(4, generator=generator, dtype=torch.float64)
            assert float(variational(best + step, name, data, model)) <= divergence + 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_the_supremum_is_found_by_ascent(name):
    """With no closed form: values are concave in x, so that a fine grid for each suffices."""
    grid = torch.linspace(-8, 8, 320_001, dtype=torch.float64)
    total = 0.0
    for p, q in zip(P, Q, strict=True):
        value = p * phi(grid, name) - q * grid
        if name == "chi2_mixture":
            value = value - (p + q) * grid**2 / 4
        total += float(value.max())
    assert total == pytest.approx(divergence_of(name, P, Q), abs=1e-8)


def test_what_is_no_divergence():
    message = (
        "divergence is 'kl'; it must be one of chi2_mixture, chi2, kl_model_data, "
        "kl_data_model, js, hellinger, tv"
    )
    with raises(ValueError, message):
        check_divergence("kl")
