"""Roll-in by parallel passes: by hand, against a plain twin, and as many passes as cells.

What holds cell by cell too is in `test_roll_in.py`.
"""

import pytest
import torch

from freerun.batch import Batch
from freerun.policy import Trace
from freerun.relaxations import soft_argmax
from freerun.roll_in import check_passes, roll_in, score_relaxed
from tests.decoding.test_roll_in import LENGTHS, choosers, coins, relaxers
from tests.helpers import Chain, Wrapped, close, gradients, tiny_batch, tiny_policy
from tests.models.kinds import policy_of
from tests.twins import twin_passes

KINDS_HERE = [9, 18, 27]  # additive; general and aligned, with input feeding
THROUGH = [True, False]


@pytest.fixture(params=KINDS_HERE, ids=str)
def policy(request):
    return policy_of(request.param)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy, **LENGTHS)


def constant(feed):
    """The same weights, without their gradient."""

    def given(scores, rows, cells):
        return feed(scores, rows, cells).detach()

    return given


def same(policy, found, expected, tolerance=1e-9):
    """That scores are the same, and their gradients by every parameter."""
    close(found, expected, 1e-11)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(found.shape, generator=generator, dtype=found.dtype)
    ours, theirs = (gradients(policy, (scores * weights).sum()) for scores in (found, expected))
    close(ours, theirs, tolerance)


A, B, C, END, BOS = range(5)


def test_by_hand():
    """A model that writes a after bos, and after each letter the next: a b c, and the end."""
    table = torch.zeros(1, 5, 4, dtype=torch.float64)
    for token, after in {BOS: A, A: B, B: C, C: END, END: A}.items():
        table[0, token, after] = 1
    policy = Chain(table)
    target = torch.tensor([[C, C, A, B, END]])
    mask = torch.ones_like(target, dtype=torch.bool)
    batch = Batch(torch.tensor([7]), policy.source(0), target, mask)

    def read(own, passes):
        own = torch.tensor([[letter == "o" for letter in own]])
        choose = choosers(batch)[0]
        return "".join("abcd^"[t] for t in roll_in(policy, batch, own, choose, passes=passes)[0])

    # What is read after ^ c c a b is written in the next line, a cell on.
    assert read("-----", 2) == "^ccab"
    assert read("-oooo", 2) == "^addb"  # after the reference ^ c c a
    assert read("-oooo", 3) == "^abaa"  # after ^ a d d
    assert read("-oooo", 4) == "^abcb"
    assert read("-oooo", 5) == read("-oooo", 9) == read("-oooo", None) == "^abcd"
    assert read("-o--o", 2) == "^acab"
    assert read("--o-o", 2) == read("--o-o", 3) == read("--o-o", None) == "^cdab"


@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("turn", [0, 1])
def test_own_tokens_are_those_of_the_twin(policy, batch, passes, turn):
    own, choose = coins(batch, 0.7), choosers(batch)[turn]
    inputs = roll_in(policy, batch, own, choose, passes=passes)
    scores = policy.force(batch.source, inputs).logits(batch.mask)
    close(scores, twin_passes(policy, batch, own, choose, passes), 1e-11)


@pytest.mark.sample(12)
@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("turn", [0, 1, 2])
@pytest.mark.parametrize("through", THROUGH)
def test_relaxed_tokens_are_those_of_the_twin(policy, batch, passes, turn, through):
    """And their gradient: through the weights of all passes, or only through embeddings."""
    own, relax = coins(batch, 0.7), relaxers(batch)[turn]
    found = score_relaxed(policy, batch, own, relax, passes=passes, through=through)
    given = relax if through else constant(relax)
    same(policy, found, twin_passes(policy, batch, own, given, passes))


@pytest.mark.parametrize(("passes", "share"), [(5, 1.0), (9, 0.5)])
@pytest.mark.parametrize("turn", [0, 1])
def test_as_many_passes_as_cells_are_steps(policy, batch, passes, share, turn):
    """The longest target has five cells."""
    own, choose = coins(batch, share), choosers(batch)[turn]
    expected = roll_in(policy, batch, own, choose)
    assert torch.equal(roll_in(policy, batch, own, choose, passes=passes), expected)
    for through in THROUGH:
        relax = relaxers(batch)[2 * turn]
        found = score_relaxed(policy, batch, own, relax, passes=passes, through=through)
        same(policy, found, score_relaxed(policy, batch, own, relax, through=through))


def test_an_own_cell_is_settled_after_as_many_passes_as_its_number():
    policy = tiny_policy(4, attention="general", input_feeding=True)
    batch = tiny_batch(policy, **LENGTHS)
    own = torch.zeros_like(batch.mask)
    own[0, [2, 4]] = own[1:, 1] = True
    relax = relaxers(batch)[0]
    expected = score_relaxed(policy, batch, own, relax)
    same(policy, score_relaxed(policy, batch, own, relax, passes=3), expected)
    too_few = score_relaxed(policy, batch, own, relax, passes=2)
    close(too_few[:4], expected[:4])
    assert float((too_few[4] - expected[4]).detach().abs().max()) > 1e-3
    close(too_few[5:], expected[5:])


def test_the_gradient_reaches_as_far_back_as_there_are_passes(policy):
    """Of two passes: the loss of a cell follows the scores before it, and none before those."""
    batch = tiny_batch(policy, lengths=(4, 4), targets=(4, 4))
    own = torch.ones_like(batch.mask)

    def reached(passes):
        seen = []

        def relax(scores, rows, cells):
            scores.retain_grad()
            seen.append(scores)
            return soft_argmax(scores, 1.0)

        scores = score_relaxed(policy, batch, own, relax, passes=passes)
        scores.view(2, 4, -1)[:, 3].square().sum().backward()
        return [(s.grad.view(2, 3, -1).abs().amax((0, 2)) > 0).tolist() for s in seen]

    assert reached(2) == [[True] * 3]
    assert reached(3) == [[True, True, False], [True] * 3]
    assert reached(4) == [[True, False, False], [True, True, False], [True] * 3]


class CountingTrace(Trace):
    """A trace that notes how many cells are projected."""

    def __init__(self, trace, projected):
        self.trace, self.projected = trace, projected

    def logits(self, cells):
        self.projected.append(int(cells.sum()))
        return self.trace.logits(cells)

    def fork(self, rows, cells):
        return self.trace.fork(rows, cells)


class Counting(Wrapped):
    """A policy that notes what is forced: rows, cells and how many of them are projected."""

    def __init__(self, policy):
        super().__init__(policy)
        self.forced, self.projected = [], []

    def force(self, source, inputs, parents=None):
        self.forced.append(tuple(inputs.shape[:2]))
        return CountingTrace(self.policy.force(source, inputs), self.projected)


def test_what_is_run(policy, batch):
    """Rows with own cells, and of their scores those that an own cell reads; else nothing."""
    counting, length = Counting(policy), batch.mask.shape[1]
    nobody = torch.zeros_like(batch.mask)
    nobody[:, 0] = True  # reads bos, whatever the coin
    nobody |= ~batch.mask
    inputs = roll_in(counting, batch, nobody, choosers(batch)[0], passes=3)
    assert torch.equal(inputs, batch.inputs(policy.vocabulary.bos))
    assert counting.forced == []
    own = nobody.clone()
    long = batch.lengths.argsort(descending=True)[:2]
    own[long, 1] = own[long[0], 2] = True
    roll_in(counting, batch, own, choosers(batch)[0], passes=2)
    assert (counting.forced, counting.projected) == ([(2, length)], [3])
    score_relaxed(counting, batch, own, relaxers(batch)[0], passes=9)
    assert counting.forced[1:] == [(2, length)] * 2 + [(5, length)]
    assert counting.projected[1:] == [3, 3, int(batch.mask.sum())]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_without_gradient_there_is_no_dropout(share):
    """Own tokens and constant weights are as the policy decodes; what is trained drops out."""
    policy = tiny_policy(4, attention="general", dropout=0.5, layers=2).train()
    batch = tiny_batch(policy, **LENGTHS)
    own, seen = coins(batch, 1.0), []

    def relax(scores, rows, cells):
        seen.append((scores.requires_grad, scores.detach()))
        return soft_argmax(scores, 1.0)

    def run(through):
        seen.clear()
        score_relaxed(policy, batch, own, relax, passes=3, through=through)
        return [scores for _, scores in seen], {grad for grad, _ in seen}, policy.training

    (first, *_), (again, *_) = run(True), run(True)
    assert run(True)[1:] == ({True}, True)
    assert not torch.equal(first[0], again[0])
    (first, *told), (again, *_) = run(False), run(False)
    assert told == [{False}, True]
    close(first, again)
    policy.eval()
    close(run(False)[0], first)


@pytest.mark.parametrize("passes", [1, 0, -2])
def test_too_few_passes(passes):
    message = (
        f"^passes is {passes}; it must be at least 2, as the first reads no own token, or left out "
        "to go cell by cell$"
    )
    with pytest.raises(ValueError, match=message):
        check_passes(passes)
    check_passes(2)
    check_passes(None)
