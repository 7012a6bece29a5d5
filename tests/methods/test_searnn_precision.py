"""SEARNN with roll-outs in lower precision than the rest."""

import pytest
import torch

from freerun.methods import Clock
from freerun.methods.searnn import rolls
from tests.helpers import Wrapped, searnn, tiny_batch, tiny_policy

pytestmark = pytest.mark.kernels


class Stepping(Wrapped):
    """A policy that only steps, and notes in which precision."""

    def __init__(self, policy, seen):
        super().__init__(policy)
        self.seen = seen

    def note(self, name):
        low = torch.is_autocast_enabled("cpu")
        self.seen.add((name, torch.get_autocast_dtype("cpu") if low else None))

    def step(self, state, inputs):
        self.note("step")
        return self.policy.step(state, inputs)

    def force(self, source, inputs, parents=None):
        self.note("force")
        return self.policy.force(source, inputs, parents)


@pytest.mark.parametrize("low", [None, torch.bfloat16])
def test_roll_outs_alone_are_in_lower_precision(low):
    policy, seen = tiny_policy(), set()
    method = searnn(
        cost="edit_distance",
        roll_in="reference",
        roll_out="learned",
        roll_out_precision="training" if low is None else "bfloat16",
    )
    method.loss(Stepping(policy, seen), tiny_batch(policy), Clock())
    assert seen == {("force", None), ("step", low)}


def test_training_in_lower_precision_is_left_as_it_is():
    policy, seen = tiny_policy().float(), set()
    method = searnn(cost="edit_distance", roll_in="reference", roll_out="learned")
    with torch.autocast("cpu", torch.bfloat16):
        method.loss(Stepping(policy, seen), tiny_batch(policy), Clock())
    assert seen == {("force", torch.bfloat16), ("step", torch.bfloat16)}


def test_costs_are_nearly_those_of_full_precision():
    """Few roll-outs write other tokens for the rounding of scores."""
    policy = tiny_policy(actions=8, limit=12).float()
    batch = tiny_batch(policy, targets=(9, 7, 8, 5))
    found = [
        searnn(cost="edit_distance", roll_out="learned", roll_out_precision=precision)
        .search(policy, batch, Clock())
        .costs
        for precision in ("training", "bfloat16")
    ]
    same = (found[0] == found[1]).float().mean()
    assert float(same) > 0.8


def test_precision_without_a_roll_out_is_refused():
    message = (
        "^searnn: roll_out_precision has no effect on roll_out=reference; it needs "
        "roll_out=learned or mixed or focused$"
    )
    with pytest.raises(ValueError, match=message):
        searnn(roll_out="reference", roll_out_precision="bfloat16")


def test_bfloat16_is_slower_on_other_processors(monkeypatch, caplog):
    """This is said once."""
    monkeypatch.setattr(rolls, "has_bfloat16", lambda device: False)
    rolls._warn_of_bfloat16.cache_clear()
    policy = tiny_policy(4)
    for step in range(2):
        searnn(cost="edit_distance", roll_out_precision="bfloat16").loss(
            policy, tiny_batch(policy), Clock(step, 2, 0)
        )
    assert [record.getMessage() for record in caplog.records] == [
        "roll_out_precision=bfloat16 is slower than the default here: this processor does not "
        "multiply in bfloat16"
    ]
    rolls._warn_of_bfloat16.cache_clear()
