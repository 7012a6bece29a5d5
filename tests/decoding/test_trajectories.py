"""Trajectories: roll-ins as long as whoever writes them makes them."""

import pytest
import torch

from freerun.decoding import greedy
from freerun.trajectories import roll_in_learned, roll_in_mixed, roll_in_reference
from tests.helpers import chain, poisoned, single, tiny_batch, tiny_policy, written

POLICIES = [
    {"limit": 7},
    {"attention": "additive", "input_feeding": True, "cell": "lstm", "limit": 7},
    {"eos": False, "attention": "aligned", "source": "real", "layers": 2},
]


@pytest.fixture(params=POLICIES, ids=str)
def policy(request):
    return tiny_policy(4, **request.param)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=(5, 1, 3, 2, 4))


@pytest.fixture
def limit(policy, batch):
    if policy.vocabulary.eos is None:
        return batch.lengths
    return torch.tensor([7, 2, 4, 1, 6])


def alone(policy, batch, limit, row):
    """What the policy writes for one sentence that is alone in its batch."""
    return greedy(policy, single(batch, row).source, limit=limit[row : row + 1]).tokens[0].tolist()


def check_shape(found, policy):
    """As wide as the longest row, with the cells at the left, and nothing but padding after."""
    assert found.tokens.shape == found.mask.shape == found.greedy.shape
    assert found.tokens.shape[1] == int(found.lengths.max())
    cells = torch.arange(found.mask.shape[1])
    assert torch.equal(found.mask, cells < found.lengths[:, None])
    assert bool((found.tokens[~found.mask] == policy.vocabulary.pad).all())
    assert not (found.greedy & ~found.mask).any()


def test_a_reference_roll_in_is_the_target(policy, batch):
    found = roll_in_reference(batch)
    assert torch.equal(found.tokens, batch.target)
    assert torch.equal(found.mask, batch.mask)
    assert torch.equal(found.lengths, batch.lengths)
    assert not found.greedy.any()
    bos = policy.vocabulary.bos
    assert torch.equal(found.inputs(bos), batch.inputs(bos))


def test_a_learned_roll_in_is_what_the_policy_writes(policy, batch, limit):
    found = roll_in_learned(policy, batch, torch.ones(5, dtype=torch.bool), limit)
    assert written(found) == [alone(policy, batch, limit, row) for row in range(5)]
    assert torch.equal(found.greedy, found.mask)
    check_shape(found, policy)


def test_a_learned_roll_in_is_as_long_as_its_sentence():
    """Its cells are not those of the longest; and where there is no eos, none is written."""
    policy = tiny_policy(4, eos=False)
    batch = tiny_batch(policy, lengths=(3, 1, 14, 2, 4))
    found = roll_in_learned(policy, batch, torch.ones(5, dtype=torch.bool), batch.lengths)
    assert found.lengths.tolist() == [3, 1, 14, 2, 4]
    assert int(found.mask.sum()) == 24
    assert int(found.tokens[found.mask].max()) < policy.vocabulary.actions


def test_a_roll_in_of_some_sentences_leaves_the_others_their_targets(policy, batch, limit):
    own = torch.tensor([False, True, False, True, True])
    found = roll_in_learned(policy, batch, own, limit)
    for row, tokens in enumerate(written(found)):
        target = single(batch, row).target[0].tolist()
        assert tokens == (alone(policy, batch, limit, row) if own[row] else target)
    assert torch.equal(found.greedy, found.mask & own[:, None])
    check_shape(found, policy)


def test_a_sentence_that_never_ends_has_its_limit():
    table = torch.zeros(1, 4, 3, dtype=torch.float64)
    table[..., 0] = 1
    policy = chain(3, limit=50)
    policy.table = table
    batch = tiny_batch(tiny_policy(3), lengths=(1,), targets=(2,))
    batch = type(batch)(batch.ids, policy.source(0), batch.target, batch.mask)
    for limit in (1, 2, 9):
        own = torch.ones(1, dtype=torch.bool)
        found = roll_in_learned(policy, batch, own, torch.tensor([limit]))
        assert written(found) == [[0] * limit]
        assert found.greedy.all()


def plain_mixed(policy, batch, own, limit, reference):
    """Rows of a mixed roll-in and who wrote each cell, one token after the other."""
    found = []
    for row in range(len(limit)):
        source, tokens = single(batch, row).source, []
        while len(tokens) < limit[row] and policy.vocabulary.eos not in tokens:
            if own[row, len(tokens)]:
                inputs = torch.tensor([[policy.vocabulary.bos, *tokens]])
                last = torch.zeros_like(inputs, dtype=torch.bool)
                last[0, -1] = True
                tokens.append(int(policy.force(source, inputs).logits(last).argmax()))
            else:
                tokens.append(reference(tokens, row))
        found.append(tokens)
    return found


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_mixed_roll_in_is_written_cell_by_cell(policy, batch, limit, share):
    generator = torch.Generator().manual_seed(int(10 * share))
    own = torch.rand(5, int(limit.max()) + 2, generator=generator) < share
    asked = []

    def teach(prefix, row):
        """A token that tells the prefix and the row."""
        return (sum(prefix) + 2 * len(prefix) + row) % policy.vocabulary.actions

    def reference(prefixes, lengths, rows):
        pairs = zip(prefixes.tolist(), lengths.tolist(), rows.tolist(), strict=True)
        asked.extend((prefix[:length], row) for prefix, length, row in pairs)
        return torch.tensor([teach(*pair) for pair in asked[-len(rows) :]])

    found = roll_in_mixed(policy, batch, own, limit, reference)
    assert written(found) == plain_mixed(policy, batch, own, limit, teach)
    check_shape(found, policy)
    for row, length in enumerate(found.lengths.tolist()):
        whose = own[row, :length].tolist()
        expected = [all(whose[cell + 1 :]) for cell in range(length)]
        assert found.greedy[row, :length].tolist() == expected
        # Asked where it writes; rows that have written eos may still be asked for nothing.
        taught = [cell for cell in range(length) if not whose[cell]]
        cells = {len(prefix) for prefix, r in asked if r == row}
        assert {cell for cell in cells if cell < length} == set(taught)
        assert all(cell < limit[row] for cell in cells)


def makers(policy, batch, limit):
    """Learned and mixed roll-ins."""
    own = torch.ones(5, int(limit.max()), dtype=torch.bool)
    own[:, 1] = False

    def reference(prefixes, lengths, rows):
        return torch.zeros_like(rows)

    return (
        roll_in_learned(policy, batch, own[:, 0], limit),
        roll_in_mixed(policy, batch, own, limit, reference),
    )


def test_a_row_of_not_a_number_is_alone_with_it():
    policy = tiny_policy(4, eos=False, source="real", attention="additive")
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2, 4))
    clean, found = (makers(policy, b, batch.lengths) for b in (batch, poisoned(batch)))
    for one, other in zip(clean, found, strict=True):
        assert [r for i, r in enumerate(written(one)) if i != 1] == [
            r for i, r in enumerate(written(other)) if i != 1
        ]
