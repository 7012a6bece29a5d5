"""Types and shapes are checked while tests run: of arguments, together, and of what is returned."""

import jaxtyping
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.costs.rows import length_mask
from tests import checked
from tests.checked import jaxtyped


def check(function):
    from beartype import beartype

    return jaxtyped(function, typechecker=beartype)


@check
def pick(scores: Float[Tensor, "n v"], tokens: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    return scores[:, int(tokens[0])] if tokens[0] >= 0 else scores[0]


def test_shapes_are_checked_together():
    scores = torch.zeros(2, 3)
    assert pick(scores, torch.tensor([1, 2])).shape == (2,)
    for wrong in ([1, 2, 3], [0.0, 1.0], [-1, 0]):
        with pytest.raises(BeartypeCallHintViolation):
            pick(scores, torch.tensor(wrong))


@pytest.mark.parametrize("turn", ["one test", "the next test"])
def test_only_the_first_calls_in_a_test_are_checked(monkeypatch, turn):
    monkeypatch.setattr(checked, "CALLS", 2)
    scores, floats, wrong = torch.zeros(2, 3), torch.tensor([0.0, 1.0]), torch.tensor([-1, 0])
    for tokens in (floats, wrong):
        with pytest.raises(BeartypeCallHintViolation):
            pick(scores, tokens)
    assert pick(scores, wrong).shape == (3,)


def test_it_can_be_switched_off(unchecked):
    assert pick(torch.zeros(2, 3), torch.tensor([-1, 0])).shape == (3,)


def test_freerun_is_checked():
    mask = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises((BeartypeCallHintViolation, jaxtyping.TypeCheckError)):
        Source(torch.zeros(2, 3, dtype=torch.long), mask[0])
    with pytest.raises((BeartypeCallHintViolation, jaxtyping.TypeCheckError)):
        length_mask("2", torch.tensor([1]))
