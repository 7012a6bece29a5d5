"""Roll-out: trials that are followed by hand, their memory, and what is not run."""

from dataclasses import replace

import pytest
import torch

from freerun.decoding import greedy
from freerun.policy import Trace
from freerun.roll_out import RollOuts, Trials, complete_roll_outs, roll_out
from freerun.trajectories import Trajectories
from tests.helpers import Chain, poisoned, tiny_batch, tiny_policy, written

A, B, C, END, BOS = range(5)
NEXT = [
    {BOS: A, A: B, B: C, C: END, END: A},  # a b c, and the end
    {BOS: C, A: A, B: B, C: A, END: B},  # c a a a a …
]
ENDLESS = 1 << 30


def policy_of(next_tokens=NEXT, *, eos=True, limit=6):
    """A chain that writes after every token what it is told to."""
    table = torch.zeros(len(next_tokens), 5, 4, dtype=torch.float64)
    for sentence, after in enumerate(next_tokens):
        for token, other in after.items():
            table[sentence, token, other] = 1
    return Chain(table, eos=eos, limit=limit)


def trajectories(*rows, own=False):
    """The rows as a roll-in."""
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[BOS] * (width - len(row))] for row in rows])
    mask = torch.tensor([[cell < len(row) for cell in range(width)] for row in rows])
    return Trajectories(tokens, mask, mask & own)


def trials_of(*tried):
    """Trials, from (row, cell, token) in the order of row and cell."""
    places = list(dict.fromkeys((row, cell) for row, cell, _ in tried))
    rows, cells = torch.tensor(places).T
    numbers = torch.tensor([places.index((row, cell)) for row, cell, _ in tried])
    return Trials(rows, cells, numbers, torch.tensor([token for _, _, token in tried]))


def run(policy, roll_in, trials, *, limit=6, most=ENDLESS, at_once=100):
    """Outputs, for one limit and one number of tokens for all rows, or a list of them."""
    count = len(roll_in.tokens)
    limit, most = (torch.tensor(n if isinstance(n, list) else [n] * count) for n in (limit, most))
    source = policy.source(*range(count))
    trace = policy.force(source, roll_in.inputs(policy.vocabulary.bos))
    policy.steps.clear()
    options = {"limit": limit, "max_new_tokens": most, "chunk_size": at_once}
    return roll_out(policy, trace, roll_in, trials, **options)


EVERY = [(row, cell, token) for row in (0, 1) for cell in (0, 1) for token in (A, B, C, END)]
WRITTEN = [
    *([A, B, C], [B, C], [C], []),
    *([C, A, B, C], [C, B, C], [C, C], [C]),
    *([A] * 6, [B] * 6, [C, *[A] * 5], []),
    *([B, *[A] * 5], [B] * 6, [B, C, *[A] * 4], [B]),
]
"""What the two sentences write after [c] and [b], when everything is tried at their cells."""
STEPS = 3 + 2 + 1 + 0 + 3 + 2 + 1 + 0 + 5 + 5 + 5 + 0 + 4 + 4 + 4 + 0


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_what_was_tried_is_written_to_its_end(at_once):
    """To eos or the limit, and no step is run after it; so many at once, and no more."""
    policy, roll_in = policy_of(), trajectories([C, END], [B, END])
    outputs = run(policy, roll_in, trials_of(*EVERY), at_once=at_once)
    assert written(outputs) == WRITTEN
    assert not outputs.open.any()
    assert outputs.steps == sum(policy.steps) == STEPS
    assert max(policy.steps) <= at_once


class Bounded(Trace):
    """A trace of which so many states fit into memory as have `room` tokens to read together."""

    def __init__(self, trace, room):
        self.trace, self.room, self.asked = trace, room, []

    def logits(self, cells):
        return self.trace.logits(cells)

    def fork(self, rows, cells):
        return self.trace.fork(rows, cells)

    def max_forks(self, length):
        self.asked.append(length)
        return self.room // length


@pytest.mark.parametrize(
    ("room", "at_once", "chunks"),
    [
        # Six trials may write five tokens, six may write four.
        (100, 100, [(5, 12)]),
        (15, 100, [(5, 3)] * 2 + [(4, 3)] * 2),
        (15, 2, [(5, 2)] * 3 + [(4, 2)] * 3),
        (4, 100, [(5, 1)] * 6 + [(4, 1)] * 6),
    ],
)
def test_no_more_are_run_together_than_fit(room, at_once, chunks):
    """A trace may know; the results are the same."""
    roll_in, trials = trajectories([C, END], [B, END]), trials_of(*EVERY)
    policy = policy_of()
    trace = Bounded(policy.force(policy.source(0, 1), roll_in.inputs(BOS)), room)
    limits = {"limit": torch.tensor([6, 6]), "max_new_tokens": torch.tensor([ENDLESS] * 2)}
    policy.steps.clear()
    outputs = roll_out(policy, trace, roll_in, trials, **limits, chunk_size=at_once)
    assert written(outputs) == WRITTEN
    assert trace.asked == [length for length, _ in chunks]
    assert max(policy.steps) == chunks[0][1]
    assert sum(policy.steps) == STEPS


def test_trials_stand_in_the_order_they_are_given_in():
    policy, roll_in = policy_of(), trajectories([C, END], [B, END])
    order = torch.randperm(len(EVERY), generator=torch.Generator().manual_seed(0))
    trials = trials_of(*EVERY)
    trials = replace(trials, place=trials.place[order], tokens=trials.tokens[order])
    outputs = run(policy, roll_in, trials, at_once=3)
    assert written(outputs) == [WRITTEN[i] for i in order]


def test_outputs_of_fixed_length_end_there():
    policy = policy_of([{BOS: A, A: B, B: C, C: 3, 3: A}] * 2, eos=False)
    roll_in = trajectories([A, A, A, A], [B, B])
    trials = trials_of((0, 0, C), (0, 3, 3), (1, 0, 3), (1, 1, A))
    outputs = run(policy, roll_in, trials, limit=[4, 2])
    assert written(outputs) == [[C, 3, A, B], [A, A, A, 3], [3, A], [B, A]]
    assert not outputs.open.any()
    assert outputs.steps == 4


@pytest.mark.parametrize("most", [0, 1, 2, 5])
def test_the_policy_writes_so_many_tokens(most):
    outputs = run(policy_of(), trajectories([C, END], [B, END]), trials_of(*EVERY), most=most)
    for (_, cell, token), output, full, goes_on in zip(
        EVERY, written(outputs), WRITTEN, outputs.open.tolist(), strict=True
    ):
        assert output == full[: cell + 1 + most]
        ends = token == END or (most > 0 and len(full) < 6 and cell + 1 + most > len(full))
        full_up = most > 0 and len(output) == 6
        assert goes_on == (not ends and not full_up)


def test_each_row_has_its_own_number_and_limit():
    trials = trials_of((0, 0, A), (0, 0, B), (1, 0, A), (1, 1, A))
    outputs = run(policy_of(), trajectories([C, END], [B, END]), trials, limit=[6, 4], most=[1, 9])
    assert written(outputs) == [[A, B], [B, C], [A] * 4, [B, A, A, A]]
    assert outputs.open.tolist() == [True, True, False, False]
    assert outputs.steps == 1 + 1 + 3 + 2


def test_what_the_roll_in_has_written_is_not_run_again():
    own = trajectories([A, B, C, END], [C, *[A] * 5], own=True)
    tried = trials_of((0, 0, A), (0, 2, C), (0, 3, END), (1, 0, C), (1, 4, A), (1, 5, A))
    policy = policy_of()
    outputs = run(policy, own, tried)
    assert written(outputs) == [[A, B, C]] * 3 + [[C, *[A] * 5]] * 3
    assert outputs.steps == sum(policy.steps) == 0
    assert not outputs.open.any()


def test_what_only_seems_known_is_run():
    """Where others wrote on, where another token is tried, where samples or few tokens are."""
    own = trajectories([A, B, C, END], [C, *[A] * 5], own=True)
    tried = trials_of((0, 1, B), (1, 3, A))
    assert run(policy_of(), trajectories([A, B, C, END], [C, *[A] * 5]), tried).steps == 2 + 2
    assert run(policy_of(), own, tried, most=2).steps == 2 + 2
    assert run(policy_of(), own, trials_of((0, 1, A), (1, 3, B))).steps == 3 + 2
    half = Trajectories(own.tokens, own.mask, own.mask & torch.tensor([[True], [False]]))
    assert run(policy_of(), half, tried).steps == 2


def test_tokens_of_a_cell_share_its_state(monkeypatch):
    policy, roll_in = policy_of(), trajectories([C, END], [B, END])
    force, forked = policy.force, []

    def spy(*arguments):
        trace = force(*arguments)
        fork = trace.fork
        trace.fork = lambda rows, cells: forked.append((rows, cells)) or fork(rows, cells)
        return trace

    monkeypatch.setattr(policy, "force", spy)
    run(policy, roll_in, trials_of(*EVERY))
    ((rows, cells),) = forked
    assert rows.tolist() == [0, 0, 1, 1]
    assert cells.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("tried", [[(0, 0, END), (1, 1, END)], [(0, 5, A), (1, 5, B)]])
def test_nothing_is_run_where_all_has_ended(tried):
    policy = policy_of()
    outputs = run(policy, trajectories([A] * 6, [B] * 6), trials_of(*tried))
    assert policy.steps == []
    assert outputs.steps == 0
    assert not outputs.open.any()
    assert written(outputs) == [([A], [B])[row] * cell + [t] * (t != END) for row, cell, t in tried]


def test_no_trials_at_all():
    none = replace(trials_of((0, 0, A)), place=torch.zeros(0).long(), tokens=torch.zeros(0).long())
    outputs = run(policy_of(), trajectories([C, END], [B, END]), none)
    assert outputs.tokens.shape == (0, 6)
    assert outputs.steps == 0


def real_search(policy, batch, room=None):
    """Every token at every cell of the targets."""
    vocabulary = policy.vocabulary
    roll_in = Trajectories(batch.target, batch.mask, torch.zeros_like(batch.mask))
    rows, cells = batch.mask.nonzero().unbind(1)
    place = torch.arange(len(rows)).repeat_interleave(vocabulary.actions)
    trials = Trials(rows, cells, place, torch.arange(vocabulary.actions).repeat(len(rows)))
    trace = policy.force(batch.source, roll_in.inputs(vocabulary.bos))
    trace = trace if room is None else Bounded(trace, room)
    most = torch.full_like(batch.ids, ENDLESS)
    limit = batch.lengths + 2 if vocabulary.eos is not None else batch.lengths
    return roll_out(policy, trace, roll_in, trials, limit=limit, max_new_tokens=most, chunk_size=7)


@pytest.mark.parametrize("settings", [{}, {"attention": "general", "input_feeding": True}], ids=str)
def test_a_bound_changes_no_output_of_a_policy(settings):
    policy = tiny_policy(4, **settings)
    batch = tiny_batch(policy)
    free, bound = real_search(policy, batch), real_search(policy, batch, room=4)
    assert written(bound) == written(free)
    assert bound.steps == free.steps


@pytest.mark.parametrize("eos", [True, False])
def test_modes_are_restored_and_there_is_no_gradient(eos, monkeypatch):
    policy = tiny_policy(4, eos=eos, attention="general", dropout=0.5)
    batch = tiny_batch(policy)
    plain = real_search(policy, batch)
    policy.train()
    policy.encoder.eval()
    # The trace itself is made by whoever asks, so here with dropout: only the modes are looked at.
    outputs = real_search(policy, batch)
    assert policy.training
    assert not policy.encoder.training
    assert outputs.tokens.shape == plain.tokens.shape

    def fail():
        assert not policy.training
        assert not torch.is_grad_enabled()
        raise KeyError

    monkeypatch.setattr(policy, "writer", fail)
    roll_in = Trajectories(batch.target, batch.mask, torch.zeros_like(batch.mask))
    trace = policy.force(batch.source, roll_in.inputs(policy.vocabulary.bos))
    first = Trials(*(torch.tensor([n]) for n in (2, 0, 0, 0)))
    limits = {"limit": batch.lengths + 2, "max_new_tokens": batch.ids + 1}
    with pytest.raises(KeyError):
        roll_out(policy, trace, roll_in, first, **limits, chunk_size=1)
    assert policy.training
    assert not policy.encoder.training


@pytest.mark.parametrize("eos", [True, False])
def test_a_row_of_not_a_number_is_alone_with_it(eos):
    policy = tiny_policy(4, eos=eos, source="real", attention="additive", limit=5)
    batch = tiny_batch(policy)
    clean, found = (written(real_search(policy, b)) for b in (batch, poisoned(batch)))
    rows = batch.mask.nonzero()[:, 0].repeat_interleave(4).tolist()
    others = [i for i, row in enumerate(rows) if row != 1]
    assert [found[i] for i in others] == [clean[i] for i in others]


def test_the_first_of_equals_is_written():
    """As in greedy decoding."""
    policy = policy_of([{}, {}], limit=5)
    outputs = run(policy, trajectories([C, END], [B, END]), trials_of((0, 0, C), (1, 1, END)))
    assert written(outputs) == [[C, *[A] * 5], [B]]
    assert greedy(policy, policy.source(0)).tokens.tolist() == [[A] * 5]


def outputs_of(*rows, going, width=4):
    tokens = torch.tensor([[*row, *[9] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return RollOuts(tokens, lengths, torch.tensor(going), steps=11)


def test_the_reference_policy_finishes_what_is_open():
    asked = []

    def reference(prefixes, lengths, rows):
        asked.append((written(RollOuts(prefixes, lengths, lengths > 0)), rows.tolist()))
        return torch.tensor([[5, 6, 7], [5, 6, 7], [5, 6, 7]]), torch.tensor([3, 0, 1])

    outputs = outputs_of([1], [1, 2], [3, 3, 3], [4, 4], going=[True, False, True, True])
    done = complete_roll_outs(outputs, torch.tensor([8, 8, 3, 5]), reference, None)
    assert asked == [([[1], [3, 3, 3], [4, 4]], [8, 3, 5])]
    assert written(done) == [[1, 5, 6, 7], [1, 2], [3, 3, 3], [4, 4, 5]]
    assert not done.open.any()
    assert done.steps == 11
    assert written(outputs) == [[1], [1, 2], [3, 3, 3], [4, 4]]  # left as they were
    assert outputs.tokens[0].tolist() == [1, 9, 9, 9]


def test_completions_may_be_longer_than_there_is_room_and_no_longer_than_is_exact():
    def reference(prefixes, lengths, rows):
        return torch.tensor([[5, 6, 7, 8], [1, 2, 3, 4]]), torch.tensor([4, 4])

    rows, outputs = torch.tensor([0, 1]), outputs_of([1], [2, 3, 4], going=[True, True])
    assert written(complete_roll_outs(outputs, rows, reference, None)) == [
        [1, 5, 6, 7, 8],
        [2, 3, 4, 1, 2, 3, 4],
    ]
    exact = complete_roll_outs(outputs, rows, reference, torch.tensor([4, 5]))
    assert written(exact) == [[1, 5, 6, 7], [2, 3, 4, 1, 2]]


def test_nothing_open_asks_nobody():
    def nobody(prefixes, lengths, rows):
        raise KeyError

    outputs = outputs_of([1], [2], going=[False, False])
    assert written(complete_roll_outs(outputs, torch.tensor([0, 1]), nobody, None)) == [[1], [2]]
