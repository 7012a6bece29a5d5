"""Numbers without state: what they are, that they look random, and that nothing moves them."""

import math
from collections import Counter

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.randomness import below, gumbel, permutation, random_bits, uniform
from tests.helpers import chi_square

PRECISIONS = [torch.float32, torch.float64]
IDS = torch.arange(200)[:, None]
CELLS = torch.arange(50)


def plain_bits(*numbers):
    """`random_bits` of whole numbers in Python's own arithmetic."""
    bits, cut = 0, (1 << 64) - 1
    for number in numbers:
        bits = (bits + (number + 1) * 0x9E3779B97F4A7C15) & cut
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & cut
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & cut
        bits ^= bits >> 31
    return bits


def test_bits_are_those_of_splitmix64():
    """With 0 for the state, the first output of splitmix64 as its authors publish it."""
    assert plain_bits(0) == 0xE220A8397B1DCDAF
    assert int(random_bits(0)) % 2**64 == 0xE220A8397B1DCDAF


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_bits_are_the_same_in_any_arithmetic(numbers):
    expected = plain_bits(*numbers)
    assert int(random_bits(*numbers)) % 2**64 == expected
    tensors = [torch.tensor([number]) for number in numbers]
    assert int(random_bits(*tensors)) % 2**64 == expected
    half = [number if i % 2 else torch.tensor(number) for i, number in enumerate(numbers)]
    assert int(random_bits(*half)) % 2**64 == expected


@pytest.mark.usefixtures("unchecked")
def test_seeds_of_any_size_and_kind():
    assert int(random_bits(numpy.int64(7), 3)) == int(random_bits(7, 3))
    assert int(random_bits(numpy.int32(-7), 3)) == int(random_bits(-7, 3))
    assert int(random_bits(2**64 + 7)) == int(random_bits(7))
    assert int(random_bits(torch.tensor(7, dtype=torch.int32))) == int(random_bits(7))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_interval_is_open(dtype, monkeypatch):
    """At the smallest and largest bits there are, logarithms are finite."""
    for bits in (0, -1):
        monkeypatch.setattr("freerun.randomness.random_bits", lambda *c, b=bits: torch.tensor(b))
        number = uniform(0, dtype=dtype)
        assert number.dtype == dtype
        assert 0 < number < 1
        assert math.isfinite(gumbel(0, dtype=dtype))
        assert below(10**9, 0) == (0 if bits == 0 else 10**9 - 1)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_numbers_are_uniform(dtype):
    numbers = uniform(3, "test", torch.arange(100_000), dtype=dtype).double()
    assert numbers.mean() == pytest.approx(1 / 2, abs=3 * (1 / 12 / 1e5) ** 0.5)
    assert numbers.square().mean() == pytest.approx(1 / 3, abs=3 * (4 / 45 / 1e5) ** 0.5)
    counts = torch.histc(numbers, 100, 0, 1)
    assert chi_square(counts, torch.full((100,), 1000.0)) > 0.01
    lowest = ((numbers * 2**20) % 64).long().bincount(minlength=64)  # bits 15 to 20
    assert chi_square(lowest, torch.full((64,), 100_000 / 64)) > 0.01


NEIGHBOURS = {
    "ids": lambda: (uniform(0, "s", 0, IDS, CELLS), uniform(0, "s", 0, IDS + 1, CELLS)),
    "cells": lambda: (uniform(0, "s", 0, IDS, CELLS), uniform(0, "s", 0, IDS, CELLS + 1)),
    "steps": lambda: (uniform(0, "s", 0, IDS, CELLS), uniform(0, "s", 1, IDS, CELLS)),
    "seeds": lambda: (uniform(0, "s", 0, IDS, CELLS), uniform(1, "s", 0, IDS, CELLS)),
    "streams": lambda: (uniform(0, "s", 0, IDS, CELLS), uniform(0, "t", 0, IDS, CELLS)),
    "id and cell": lambda: (uniform(0, "s", IDS, CELLS), uniform(0, "s", IDS + 1, CELLS - 1)),
    "swapped": lambda: (uniform(0, IDS + 300, CELLS), uniform(0, CELLS, IDS + 300)),
    "multiples": lambda: (uniform(0, IDS * 1024, CELLS), uniform(0, IDS * 1024 + 512, CELLS)),
}


@pytest.mark.parametrize("neighbours", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_neighbours_are_independent(neighbours):
    """Pairs of numbers whose names differ in one coordinate fill the unit square evenly."""
    first, second = neighbours()
    count = first.numel()
    pairs = (first * 8).long() * 8 + (second * 8).long()
    assert chi_square(pairs.flatten().bincount(minlength=64), torch.full((64,), count / 64)) > 0.01
    correlation = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    assert abs(correlation) < 3 / count**0.5


def test_no_lag_correlates():
    numbers = uniform(0, "lags", torch.arange(20_000)).double() - 0.5
    spectrum = torch.fft.rfft(numbers, 40_000).abs().square()
    lags = torch.fft.irfft(spectrum)[1:1000] / (len(numbers) / 12)
    assert lags.abs().max() < 5 / len(numbers) ** 0.5


def test_names_do_not_run_together():
    """Order and number of coordinates matter, as do names of streams."""
    names = [(1, 2), (2, 1), (12,), (1, 2, 0), (0, 1, 2), (1,), (), ("a", 1), ("b", 1), (1, "a")]
    assert len({int(random_bits(*name)) for name in names}) == len(names)
    table = random_bits("table", torch.arange(300)[:, None], torch.arange(300))
    assert len(table.unique()) == table.numel()


def test_layout_moves_nothing():
    """Padding, order and size of a batch: a number belongs to its name alone."""
    table = uniform(5, "s", IDS, CELLS)
    order = torch.randperm(len(IDS))
    assert torch.equal(uniform(5, "s", IDS[order], CELLS), table[order])
    assert torch.equal(uniform(5, "s", IDS, torch.arange(99))[:, :50], table)
    assert torch.equal(uniform(5, "s", IDS[7], CELLS), table[7])
    assert uniform(5, "s", 7, 11) == table[7, 11]


def test_global_state_is_neither_read_nor_moved():
    torch.manual_seed(1)
    first, state = gumbel(1, IDS), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(gumbel(1, IDS), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [*PRECISIONS, torch.bfloat16])
def test_gumbel_argmax_samples_the_softmax(dtype):
    logits = torch.tensor([1.0, -1.0, 0.0, 2.0, -3.0])
    draws = torch.arange(50_000)
    noise = gumbel(0, "noise", draws[:, None], torch.arange(5), dtype=dtype)
    assert noise.dtype == dtype
    counts = (logits + noise).argmax(-1).bincount(minlength=5)
    if dtype != torch.bfloat16:  # whose few digits tie
        assert chi_square(counts, logits.softmax(-1) * len(draws)) > 0.01
    mean = noise.double().mean()
    assert mean == pytest.approx(0.5772156649, abs=3 * math.pi / (6 * noise.numel()) ** 0.5)


@given(st.integers(1, 12), st.integers(0, 1000))
def test_below_stays_below(bound, seed):
    numbers = below(bound, seed, torch.arange(200))
    assert numbers.min() >= 0
    assert numbers.max() < bound


def test_below_is_uniform():
    counts = below(7, 0, torch.arange(70_000)).bincount(minlength=7)
    assert chi_square(counts, torch.full((7,), 10_000.0)) > 0.01


@given(st.integers(0, 50), st.integers(0, 1000))
def test_a_permutation_is_one(count, seed):
    assert permutation(count, seed, "order").sort().values.tolist() == list(range(count))


def test_all_permutations_are_as_likely():
    orders = Counter(tuple(permutation(4, 0, i).tolist()) for i in range(4800))
    assert len(orders) == 24
    assert chi_square(list(orders.values()), torch.full((24,), 200.0)) > 0.01
