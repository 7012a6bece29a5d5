"""Roll-in cell by cell: against plain, slow twins that force every prefix from scratch."""

import pytest
import torch

from freerun.decoding import argmax_tokens, sample_tokens
from freerun.randomness import gumbel, uniform
from freerun.relaxations import soft_argmax, soft_sample, straight_through
from freerun.roll_in import roll_in, score_relaxed
from tests.helpers import (
    Wrapped,
    close,
    gradients,
    poisoned,
    tiny_batch,
    tiny_policy,
)
from tests.models.kinds import KINDS, policy_of
from tests.twins import twin_roll_in, twin_score_relaxed

KINDS_HERE = range(0, len(KINDS), 9)  # every way to look at the source
PASSES = [None, 3]
LENGTHS = {"lengths": (3, 1, 5, 2, 4), "targets": (5, 1, 3, 2, 4)}


@pytest.fixture(params=KINDS_HERE, ids=str)
def policy(request):
    return policy_of(request.param)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy, **LENGTHS)


def coins(batch, share):
    """Cells that read an own token, at random: also first cells and cells past the target."""
    cells = torch.arange(batch.mask.shape[1])
    return uniform(round(share * 100), "own", batch.ids[:, None], cells) < share


def choosers(batch):
    def draw(scores, rows, cells):
        return sample_tokens(scores.log_softmax(-1), 0, "draw", batch.ids[rows], cells)

    return [lambda scores, rows, cells: argmax_tokens(scores), draw]


def relaxers(batch):
    def noise(scores, rows, cells):
        actions = torch.arange(scores.shape[-1])
        return gumbel(0, "n", batch.ids[rows, None], cells[:, None], actions, dtype=scores.dtype)

    def drawn(scores, rows, cells):
        return soft_sample(scores, noise(scores, rows, cells), 0.7, top_k=2)

    return [
        lambda scores, rows, cells: soft_argmax(scores, 0.5),
        lambda scores, rows, cells: straight_through(soft_argmax(scores, 2.0)),
        drawn,
    ]


class Counting(Wrapped):
    """A policy that counts the rows of every start and step."""

    def __init__(self, policy):
        super().__init__(policy)
        self.starts, self.steps = [], []

    def start(self, source):
        self.starts.append(len(source.mask))
        return self.policy.start(source)

    def step(self, state, inputs):
        self.steps.append(len(inputs))
        return self.policy.step(state, inputs)


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("turn", [0, 1])
def test_mixed_is_its_twin(policy, batch, share, turn):
    own, choose = coins(batch, share), choosers(batch)[turn]
    inputs = roll_in(policy, batch, own, choose)
    for row, expected in enumerate(twin_roll_in(policy, batch, own, choose)):
        assert inputs[row, : len(expected)].tolist() == expected


@pytest.mark.sample(14)
@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("turn", [0, 1, 2])
def test_relaxed_is_its_twin(policy, batch, share, turn):
    """Its scores, and their gradient by every parameter."""
    own, relax = coins(batch, share), relaxers(batch)[turn]
    scores = score_relaxed(policy, batch, own, relax)
    expected = twin_score_relaxed(policy, batch, own, relax)
    close(scores, expected, 1e-11)
    weights = torch.randn(scores.shape, dtype=scores.dtype)
    found = gradients(policy, (scores * weights).sum())
    close(found, gradients(policy, (expected * weights).sum()), 1e-9)


def test_reference_roll_in_runs_nothing(policy, batch):
    counting = Counting(policy)
    nobody = torch.zeros_like(batch.mask)
    nobody[:, 0] = True  # the first cell reads bos, whatever the coin
    nobody |= ~batch.mask
    inputs = roll_in(counting, batch, nobody, choosers(batch)[0])
    assert torch.equal(inputs, batch.inputs(policy.vocabulary.bos))
    assert counting.starts == counting.steps == []


def test_only_what_own_tokens_depend_on_is_run():
    policy = tiny_policy(limit=5)
    batch = tiny_batch(policy, **LENGTHS)
    own = torch.zeros_like(batch.mask)
    own[0, 3] = own[2, 1] = own[2, 2] = own[4, 1] = own[3, 4] = True  # the last is past its target
    counting = Counting(policy)
    roll_in(counting, batch, own, choosers(batch)[0])
    assert counting.starts == [3]
    assert counting.steps == [3, 2, 1]


def test_relaxed_rows_leave_when_their_target_ends():
    policy = tiny_policy(limit=5)
    batch = tiny_batch(policy, **LENGTHS)
    counting = Counting(policy)
    score_relaxed(counting, batch, batch.mask, relaxers(batch)[0])
    assert counting.steps == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_hard_weights_are_tokens(policy, batch, share):
    """With one-hot weights, relaxed scores are those of the tokens that mixed feeds."""
    own = coins(batch, share)

    def relax(scores, rows, cells):
        return straight_through(soft_argmax(scores, 3.0))

    inputs = roll_in(policy, batch, own, choosers(batch)[0])
    expected = policy.force(batch.source, inputs).logits(batch.mask)
    close(score_relaxed(policy, batch, own, relax), expected)


def test_mixed_has_no_gradient_and_relaxed_has(policy, batch):
    own = torch.ones_like(batch.mask)
    seen = []

    def choose(scores, rows, cells):
        seen.append(scores.requires_grad)
        return argmax_tokens(scores)

    roll_in(policy, batch, own, choose)
    assert seen
    assert not any(seen)
    assert score_relaxed(policy, batch, own, relaxers(batch)[0]).requires_grad


@pytest.mark.parametrize("passes", PASSES)
def test_a_row_of_not_a_number_is_alone_with_it(passes):
    policy = tiny_policy(4, eos=False, source="real", attention="general")
    batch = tiny_batch(policy, lengths=(3, 4, 5, 2, 4))
    pair = batch, poisoned(batch)
    others = torch.tensor([0, 2, 3, 4])
    for choose in choosers(batch):
        clean, found = (roll_in(policy, given, batch.mask, choose, passes=passes) for given in pair)
        assert torch.equal(found[others], clean[others])
    for relax in relaxers(batch):
        clean, found = (
            score_relaxed(policy, given, batch.mask, relax, passes=passes) for given in pair
        )
        parts, expected = (scores.split(batch.lengths.tolist()) for scores in (found, clean))
        assert all(torch.equal(parts[row], expected[row]) for row in others)


@pytest.mark.parametrize("passes", PASSES)
def test_choices_see_single_precision(passes):
    """A policy in half precision hands on scores that can be summed."""
    policy, seen = tiny_policy().bfloat16(), []
    batch = tiny_batch(policy, **LENGTHS)

    def choose(scores, rows, cells):
        seen.append(scores.dtype)
        return argmax_tokens(scores)

    def relax(scores, rows, cells):
        seen.append(scores.dtype)
        return soft_argmax(scores, 1.0)

    roll_in(policy, batch, batch.mask, choose, passes=passes)
    scores = score_relaxed(policy, batch, batch.mask, relax, passes=passes)
    assert {*seen, scores.dtype} == {torch.float32}
