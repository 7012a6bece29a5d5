"""How a token is picked from scores: hand numbers, frequencies, refusals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.decoding import (
    apply_in_blocks,
    argmax_tokens,
    sample_tokens,
    sampling,
    truncated_log_probs,
)
from tests.helpers import chi_square, close, raises

PROBS = torch.tensor([[0.1, 0.5, 0.15, 0.25]], dtype=torch.float64)
INFINITY = float("inf")


def test_greedy_takes_the_first_of_equals():
    scores = torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [-INFINITY, -5.0, -INFINITY]])
    assert argmax_tokens(scores).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [
        ({}, [0.1, 0.5, 0.15, 0.25]),
        ({"temperature": 0.5}, [0.01, 0.25, 0.0225, 0.0625]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 0.5, 0, 0.25]),
        ({"top_k": 9}, [0.1, 0.5, 0.15, 0.25]),
        ({"top_p": 0.3}, [0, 1, 0, 0]),
        ({"top_p": 0.5}, [0, 1, 0, 0]),  # half is reached by the first
        ({"top_p": 0.51}, [0, 0.5, 0, 0.25]),
        ({"top_p": 0.89}, [0, 0.5, 0.15, 0.25]),
        ({"top_p": 0.91}, [0.1, 0.5, 0.15, 0.25]),
        ({"top_p": 1.0}, [0.1, 0.5, 0.15, 0.25]),
        ({"top_k": 3, "top_p": 0.7}, [0, 0.5, 0, 0.25]),  # of the three: 0.56, 0.28, 0.17
        ({"temperature": 0.5, "top_p": 0.7}, [0, 1, 0, 0]),  # 0.72 after the temperature
    ],
)
def test_truncation_by_hand(truncation, expected):
    expected = torch.tensor([expected], dtype=torch.float64)
    found = truncated_log_probs(PROBS.log() + 3, **truncation)
    close(found.exp(), expected / expected.sum())


@given(
    st.integers(0, 10**6),
    st.floats(0.1, 5),
    st.one_of(st.none(), st.integers(1, 7)),
    st.floats(0.01, 1),
)
def test_truncation_keeps_a_distribution_of_the_best(seed, temperature, top_k, top_p):
    scores = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)).double()
    found = truncated_log_probs(scores, temperature=temperature, top_k=top_k, top_p=top_p).exp()
    close(found.sum(-1), torch.ones(3, dtype=torch.float64))
    ordered = found.gather(-1, scores.argsort(-1, descending=True))
    kept = (ordered > 0).sum(-1)
    assert bool((ordered.diff(dim=-1) <= 0).all())
    assert bool((kept <= (top_k or 6)).all())
    full = truncated_log_probs(scores, temperature=temperature, top_k=top_k).exp()
    full = full.sort(-1, descending=True).values
    for row, count in enumerate(kept.tolist()):
        assert full[row, :count].sum() >= top_p - 1e-12
        assert full[row, : count - 1].sum() < top_p + 1e-12


@pytest.mark.parametrize(
    ("truncation", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0 (greedy decodes at 0)"),
        (
            {"temperature": float("nan")},
            "temperature is nan; it must be above 0 (greedy decodes at 0)",
        ),
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
        ({"top_p": 0.0}, "top_p is 0.0; it must lie in (0, 1]"),
        ({"top_p": 1.5}, "top_p is 1.5; it must lie in (0, 1]"),
    ],
)
def test_settings_out_of_range(truncation, message):
    with raises(ValueError, message):
        truncated_log_probs(PROBS.log(), **truncation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_follow_the_distribution(dtype):
    rows = 40_000
    log_probs = PROBS.log().to(dtype).expand(rows, 4)
    tokens = sample_tokens(log_probs, 0, "test", torch.arange(rows))
    assert chi_square(tokens.bincount(minlength=4), PROBS[0] * rows) > 0.01


@pytest.mark.parametrize("number", [2.0**-53, 0.3, 1 - 2.0**-53])
def test_what_cannot_be_is_never_drawn(number, monkeypatch):
    """At both ends of the interval, and whether the weights sum to one or not."""
    monkeypatch.setattr(
        "freerun.decoding.sampling.uniform",
        lambda *coordinates, dtype: torch.full((3,), number, dtype=dtype),
    )
    log_probs = torch.tensor(
        [
            [-INFINITY, 0.0, -INFINITY],
            [-INFINITY, -INFINITY, 0.1],
            [0.1, -INFINITY, -INFINITY],
        ]
    )
    assert sample_tokens(log_probs, torch.arange(3)).tolist() == [1, 2, 0]


def test_a_row_of_not_a_number_is_alone_with_it():
    log_probs = PROBS.log().repeat(200, 1)
    clean = sample_tokens(log_probs, 0, torch.arange(200))
    log_probs[7] = float("nan")
    found = sample_tokens(log_probs, 0, torch.arange(200))
    assert 0 <= found[7] < 4
    others = torch.arange(200) != 7
    assert torch.equal(found[others], clean[others])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("most", [1, 4, 8, 100])
def test_blocks_are_put_together(monkeypatch, count, most):
    monkeypatch.setattr(sampling, "_BLOCK_SCORES_CPU", most)
    scores, numbers, seen = torch.rand(count, 4), torch.arange(count), []

    def make(some, of):
        seen.append(len(some))
        return some.sum(1) + of

    assert torch.equal(apply_in_blocks(make, scores, numbers), scores.sum(1) + numbers)
    assert sum(seen) == count
    assert max(seen) <= max(1, most // 4)
