"""The log loss against hand numbers."""

import math

import pytest
import torch

from freerun.losses import log_loss
from tests.helpers import close

SCORES = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], dtype=torch.float64).log() + 3
TARGETS = torch.tensor([0, 2])


def test_by_hand():
    assert float(log_loss(SCORES, TARGETS)) == pytest.approx(math.log(2) - math.log(0.7), abs=1e-14)


def test_smoothing_by_hand():
    """ε is spread over all tokens, the target included."""
    mean = [-(math.log(0.5) + 2 * math.log(0.25)) / 3, -(math.log(0.1 * 0.2 * 0.7)) / 3]
    first = 0.9 * math.log(2) + 0.1 * mean[0]
    second = -0.9 * math.log(0.7) + 0.1 * mean[1]
    found = float(log_loss(SCORES, TARGETS, smoothing=0.1))
    assert found == pytest.approx(first + second, abs=1e-14)


def test_gradient_by_hand():
    """softmax minus q."""
    scores = SCORES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_loss(scores, TARGETS, smoothing=0.3), scores)
    q = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
    close(gradient, SCORES.softmax(-1) - q)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_it_is_a_sum_over_cells(smoothing):
    whole = log_loss(SCORES, TARGETS, smoothing=smoothing)
    parts = [log_loss(SCORES[i : i + 1], TARGETS[i : i + 1], smoothing=smoothing) for i in (0, 1)]
    close(whole, sum(parts))
    assert float(log_loss(SCORES[:0], TARGETS[:0], smoothing=smoothing)) == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradcheck(smoothing):
    scores = SCORES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: log_loss(s, TARGETS, smoothing=smoothing), scores)


def test_no_target_is_passed_over():
    with pytest.raises(ValueError, match=r"^targets has -100; it must be from 0 to "):
        log_loss(SCORES, torch.tensor([0, -100]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_half_precision_is_summed_in_single(smoothing):
    scores = torch.randn(640, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.arange(640) % 7
    found = log_loss(scores, targets, smoothing=smoothing)
    assert found.dtype == torch.float32
    assert torch.equal(found, log_loss(scores.float(), targets, smoothing=smoothing))
