"""Schedules against hand numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerun.schedules import (
    Constant,
    Exponential,
    Geometric,
    InverseSigmoid,
    Linear,
    Schedule,
    inverse_sigmoid_rate,
)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(0.3), {0: 0.3, 7: 0.3, 10**9: 0.3}),
        (Linear(1.0, 0.1), {0: 1.0, 3: 0.7, 10: 0.0, 11: 0.0, 10**9: 0.0}),
        (Linear(0.9, 0.2, floor=0.25), {0: 0.9, 3: 0.3, 4: 0.25, 100: 0.25}),
        (Exponential(0.5), {0: 1.0, 1: 0.5, 3: 0.125, 10**6: 0.0}),
        (Exponential(0.5, floor=0.2), {0: 1.0, 2: 0.25, 3: 0.2}),
        (
            InverseSigmoid(1.0),
            {0: 1 / 2, 1: 1 / (1 + math.e), 3: 1 / (1 + math.exp(3)), 10**9: 0.0},
        ),
        (InverseSigmoid(10.0), {0: 10 / 11, 5: 10 / (10 + math.exp(0.5)), 10**9: 0.0}),
        (InverseSigmoid(10.0, floor=0.5), {0: 10 / 11, 30: 0.5}),
        (InverseSigmoid(1e6), {0: 1e6 / (1e6 + 1), 10**9: 0.0}),
        (Geometric(1.0, 100.0, 10), {0: 1.0, 5: 10.0, 10: 100.0, 11: 100.0}),
        (Geometric(8.0, 0.5, 4), {0: 8.0, 1: 4.0, 2: 2.0, 4: 0.5, 9: 0.5}),
        (Geometric(3.0, 3.0, 7), {0: 3.0, 4: 3.0, 9: 3.0}),
        (Geometric(2.0, 5.0, 0), {0: 5.0, 3: 5.0}),
    ],
)
def test_values(schedule, values):
    assert isinstance(schedule, Schedule)
    found = {step: schedule(step) for step in values}
    assert found == pytest.approx(values, abs=1e-14)


@given(st.floats(1, 1e8), st.integers(0, 10**12))
def test_inverse_sigmoid_never_overflows(k, step):
    value = InverseSigmoid(k)(step)
    assert 0 <= value <= 1
    if step / k < 700:
        assert value == pytest.approx(k / (k + math.exp(step / k)), rel=1e-9)


@given(st.floats(0, 1e9))
def test_inverse_sigmoid_is_half_where_asked(half):
    k = inverse_sigmoid_rate(half)
    assert k >= 1
    assert k * math.log(k) == pytest.approx(half, rel=1e-9, abs=1e-9)
    assert InverseSigmoid(k)(round(half)) == pytest.approx(0.5, abs=0.25 / k + 1e-6)
