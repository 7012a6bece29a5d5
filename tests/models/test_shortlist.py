"""The largest of many scores: always the one that double precision finds."""

import pytest
import torch

from freerun.models.recurrent import projection
from freerun.models.recurrent.kernels import Buffers
from freerun.models.recurrent.projection import BLOCK_ROWS, GROUP_SIZE, ROUNDING, Shortlist

pytestmark = pytest.mark.kernels


def shortlist(weight, bias):
    return Shortlist(weight, bias, Buffers(weight))


def plain(weight, bias, outputs):
    return (outputs.double() @ weight.double().T + bias.double()).argmax(1)


def random(count, actions, size=16, seed=0, *, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(actions, size, generator=generator)
    weight *= torch.randn(actions, 1, generator=generator).mul(spread).exp()
    bias = spread * torch.randn(actions, generator=generator)
    return weight, bias, torch.randn(count, size, generator=generator).tanh()


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("actions", [1, 2, GROUP_SIZE - 1, GROUP_SIZE, GROUP_SIZE + 1, 1000])
def test_is_the_argmax(actions, spread):
    weight, bias, outputs = random(BLOCK_ROWS["cpu"] + 3, actions, spread=spread)
    found = shortlist(weight, bias).argmax(outputs)
    assert torch.equal(found, plain(weight, bias, outputs))


@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-4, 1e-2])
def test_scores_closer_than_bfloat16_can_tell(apart):
    """Every token has near twins, of which one is the best by `apart`; the first, if by nothing."""
    weight, bias, outputs = random(40, 50)
    weight, bias = weight.repeat(6, 1), bias.repeat(6)
    bias[150:200] += apart
    found = shortlist(weight, bias).argmax(outputs)
    assert torch.equal(found, plain(weight, bias, outputs))
    assert bool((found // 50 == (3 if apart else 0)).all())


def test_equal_scores_give_the_first_token():
    found = shortlist(torch.zeros(300, 8), torch.zeros(300)).argmax(torch.randn(5, 8))
    assert found.tolist() == [0] * 5
    few = shortlist(torch.zeros(300, 8), torch.arange(300).eq(7).float()).argmax(torch.randn(5, 8))
    assert few.tolist() == [7] * 5


def test_scores_that_are_no_numbers_are_treated_as_without():
    weight, bias, outputs = random(4, 300)
    outputs[2, 3] = torch.nan
    outputs[3, 0] = torch.inf
    found = shortlist(weight, bias).argmax(outputs)
    assert torch.equal(found, (outputs @ weight.T + bias).argmax(1))


def test_large_biases_are_seen_in_all_their_digits():
    weight, bias, outputs = random(30, 400)
    bias += 1000
    found = shortlist(weight, bias).argmax(outputs)
    assert torch.equal(found, plain(weight, bias, outputs))


@pytest.mark.parametrize("spread", [0.1, 2.0])
def test_no_score_is_farther_from_its_product_than_assumed(spread):
    """The bound itself, which random choices might never need."""
    weight, bias, outputs = random(64, 3 * GROUP_SIZE, 64, spread=spread)
    found = shortlist(weight, bias)
    few = outputs.bfloat16()
    summed = found._append_ones(few).double() @ found.rounded.double().T
    exact = outputs.double() @ weight.double().T + bias.double()
    slack = found._bound_errors(outputs, few.float()).repeat_interleave(GROUP_SIZE, 1)
    off = (summed - exact).abs()
    assert bool((off <= slack).all())
    assert float((off / slack).amax()) > 0.1  # and it is no idle bound
    rounded = summed.bfloat16().double()
    assert bool(((rounded - summed).abs() <= ROUNDING * rounded.abs()).all())


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("lower", [5.0, 1000.0])
def test_negative_scores(lower, exact):
    """Their bits are ordered the other way."""
    weight, bias, outputs = random(30, 400)
    found = Shortlist(weight, bias - lower, Buffers(weight), exact=exact).argmax(outputs)
    if exact:
        assert torch.equal(found, plain(weight, bias - lower, outputs))
    scores = outputs @ weight.T + bias - lower
    short = scores.amax(1) - scores.gather(1, found[:, None])[:, 0]
    assert float(short.max()) <= 0.02 * lower


def test_only_candidates_are_decided(monkeypatch):
    """Of thousands of tokens a handful is compared in full."""
    weight, bias, outputs = random(50, 4000, 64)
    found, compared = shortlist(weight, bias), []
    decided = Shortlist._decide

    def counted(self, outputs, rows, tokens):
        compared.append(len(rows))
        return decided(self, outputs, rows, tokens)

    monkeypatch.setattr(Shortlist, "_decide", counted)
    monkeypatch.setattr(Shortlist, "_argmax_plainly", None)
    assert torch.equal(found.argmax(outputs), plain(weight, bias, outputs))
    assert 50 <= sum(compared) <= 150


@pytest.mark.parametrize("count", [1, 7])
def test_chunks_of_tokens_without_a_shortlist(count, monkeypatch):
    """On processors without bfloat16; ties go to the first, and NaN is the largest."""
    monkeypatch.setattr(projection, "CHUNK_TOKENS", 4)
    monkeypatch.setattr(projection, "CHUNK_ROWS", 3)
    # Of integers, which sum exactly in any order, so that many tokens tie.
    weight, bias, outputs = ((2 * part).round() for part in random(count, 11, size=3))
    weight[2], outputs[0] = 20, 1
    weight[9], bias[9] = weight[2], bias[2]  # in another chunk
    layer = torch.nn.Linear(*weight.T.shape)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        rows = projection.OutputKernel(layer, torch.float32, Buffers(outputs))
        assert rows.shortlist is None
        assert torch.equal(rows.argmax(outputs), plain(weight, bias, outputs))
        assert rows.argmax(outputs)[0] == 2
        outputs[-1, 1] = torch.nan
        assert rows.argmax(outputs)[-1] == 0
