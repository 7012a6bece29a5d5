"""Intervals over seeds and test examples: against formulas, other libraries and simulation."""

import math

import numpy as np
import pytest

from freerun.evaluation import estimate, estimate_difference, is_clear, resample
from freerun.evaluation.intervals import (
    count_seeds,
    find_needed_seeds,
    find_t,
    split_variance,
)
from freerun.metrics import Statistics
from freerun.metrics.statistics import divide_sums

EXAMPLES, DRAWS = 200, 1_000


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.706205), (2, 4.302653), (3, 3.182446), (4, 2.776445), (9, 2.262157), (100, 1.983972)],
)
def test_quantiles_of_student(degrees, expected):
    """The tables of every textbook."""
    assert find_t(0.975, degrees) == pytest.approx(expected, abs=1e-6)
    assert find_t(0.5, degrees) == 0


def test_values_of_resampled_examples_are_those_of_the_examples_drawn():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 9, size=(7, 2)).astype(float)
    ones = Statistics(np.eye(7), lambda sums: sums @ 8.0 ** np.arange(7))
    numbers = [Statistics(np.eye(7)[:, i : i + 1], lambda sums: sums[:, 0]) for i in range(7)]
    errors, code, *counts = resample([Statistics(rows, divide_sums), ones, *numbers], draws=50)
    assert sum(counts) == pytest.approx(np.full(50, 7))
    for i in range(50):
        drawn = [row for row, count in zip(rows, counts, strict=True) for _ in range(int(count[i]))]
        edits, lengths = np.sum(drawn, axis=0)
        assert errors[i] == pytest.approx(edits / max(lengths, 1))
    assert len(set(code)) > 40


def test_draws_do_not_depend_on_how_many_fit_in_memory(monkeypatch):
    rows = np.random.default_rng(0).random((11, 2))
    whole = resample([Statistics(rows, divide_sums)], draws=20)
    monkeypatch.setattr("freerun.evaluation.intervals._BLOCK", 33)
    assert np.array_equal(resample([Statistics(rows, divide_sums)], draws=20), whole)


def test_over_seeds_alone_it_is_students_interval():
    found = estimate([1.0, 2.0, 4.0], None)
    width = 4.302653 * math.sqrt(7 / 3) / math.sqrt(3)
    assert found["mean"] == pytest.approx(7 / 3)
    assert found["std"] == pytest.approx(math.sqrt(7 / 3))
    assert found["low"] == pytest.approx(7 / 3 - width, abs=1e-6)
    assert found["high"] == pytest.approx(7 / 3 + width, abs=1e-6)


def test_of_one_seed_it_is_over_examples_alone():
    draws = np.linspace(0.0, 1.0, 1001)[:, None]
    found = estimate([0.4], draws)
    assert found == {
        "mean": 0.4, "std": None, "values": [0.4],
        "low": pytest.approx(0.025), "high": pytest.approx(0.975),
    }  # fmt: skip
    assert estimate([0.4], None)["low"] is estimate([0.4], None)["high"] is None


def test_both_parts_are_added_as_squares():
    draws = np.linspace(0.0, 1.0, 1001)[:, None].repeat(2, axis=1)
    found = estimate([0.3, 0.5], draws)
    seeds = 12.706205 * 0.1
    assert found["low"] == pytest.approx(0.4 - math.hypot(seeds, 0.375), abs=1e-6)
    assert found["high"] == pytest.approx(0.4 + math.hypot(seeds, 0.575), abs=1e-6)


def test_equal_outputs_differ_by_nothing():
    found = estimate_difference([0.0, 0.0], np.zeros((100, 2)))
    assert (found["low"], found["high"], found["seeds_needed"]) == (0, 0, None)
    assert not is_clear(found)


def test_a_difference_that_is_clear_needs_no_more_seeds():
    found = estimate_difference([1.0, 1.1, 0.9], np.full((100, 3), 1.0))
    assert is_clear(found)
    assert found["seeds_needed"] is None


def test_the_number_of_seeds_is_the_smallest_that_the_formula_allows():
    values = [0.1, 0.5, -0.2]
    needed = count_seeds(values, None)
    s, mean = np.std(values, ddof=1), np.mean(values)

    def bound(n):
        return (find_t(0.975, n - 1) + 0.8416212) * s / math.sqrt(n)

    assert needed == 57
    assert bound(needed) < mean <= bound(needed - 1)
    assert count_seeds([0.3], np.ones((9, 1))) is None
    assert count_seeds([0.0, 0.0001, -0.0001], None) is None


def simulate(rng, seeds, spread, mean=0.0, reps=1):
    """Differences of examples with effects of the seed, the example, and both; means and draws."""
    over_seeds, over_examples, rest = spread
    rest_noise = rng.standard_normal((reps, seeds, EXAMPLES)) * rest
    example = rng.standard_normal((reps, 1, EXAMPLES)) * over_examples
    x = mean + (example + rest_noise) * math.sqrt(EXAMPLES)
    return x + rng.standard_normal((reps, seeds, 1)) * over_seeds


def test_the_variance_over_examples_is_split():
    x = simulate(np.random.default_rng(0), 8, (5, 0.6, 0.8))[0]
    shared, own = split_variance(draw(x))
    # Examples are 200, so that either part is known to about a tenth.
    assert shared == pytest.approx(0.36, rel=0.3)
    assert own == pytest.approx(0.64, rel=0.2)


def draw(x):
    """The means of seeds for resampled examples."""
    columns = [Statistics(row[:, None], lambda sums: sums[:, 0] / EXAMPLES) for row in x]
    return np.stack(resample(columns, DRAWS), axis=1)


SPREADS = [(1, 0.1, 0.1), (1, 0.5, 0.5), (0.3, 1, 1), (0.0, 0.1, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_covers_the_truth(seeds, spread):
    """In at least 95 of 100 sets, less four standard errors of that number."""
    rng, reps = np.random.default_rng(seeds), 500
    covered = 0
    x = simulate(rng, seeds, spread, reps=reps)
    draws = draw(x.reshape(reps * seeds, EXAMPLES)).reshape(DRAWS, reps, seeds)
    for i in range(reps):
        covered += not is_clear(estimate(x[i].mean(1).tolist(), draws[:, i]))
    assert covered / reps >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / reps)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "covers"), [(2, 0.5), (3, 0.7), (5, 0.83), (10, 0.91)])
def test_resampling_seeds_would_not_cover_it(seeds, covers):
    """Why it is Student's: what a bootstrap of seeds covers where they make the difference."""
    rng, reps = np.random.default_rng(seeds), 1_000
    drawn = rng.multinomial(seeds, [1 / seeds] * seeds, size=DRAWS) / seeds
    low, high = np.quantile(drawn @ rng.standard_normal((seeds, reps)), [0.025, 0.975], axis=0)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(covers, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spread", "mean"), [((1, 0.1, 0.1), 0.8), ((1, 0.1, 0.5), 0.6), ((0.3, 0.2, 1), 0.8)]
)
def test_with_as_many_seeds_as_said_four_of_five_comparisons_are_clear(spread, mean):
    (seed, example, rest), reps = spread, 400
    needed = find_needed_seeds(mean, seed**2 + rest**2, example**2, float(rest**2))
    assert 4 < needed < 50
    x = simulate(np.random.default_rng(0), needed, spread, mean, reps=reps)
    draws = draw(x.reshape(reps * needed, EXAMPLES)).reshape(DRAWS, reps, needed)
    clear = [is_clear(estimate(x[i].mean(1).tolist(), draws[:, i])) for i in range(reps)]
    assert 0.72 < np.mean(clear) < 0.88
