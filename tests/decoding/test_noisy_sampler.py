"""Actions that are given, and errors that are planted."""

import pytest
import torch

from freerun.decoding import NoisySampler, choose_greedily, decode_with, force_actions, make_sampler
from freerun.vocabulary import Vocabulary
from tests.helpers import chain, chi_square, close, tiny_policy, tiny_source, vocabulary
from tests.twins import twin_backtrack

ROWS = 64


def small(limit=12, **settings):
    words = vocabulary(5).with_backspace()
    return tiny_policy(limit=limit, words=words, attention="general", scale=0.5, **settings)


def rows_of(policy, rows=ROWS):
    return tiny_source(policy, (3, 1, 4, 2)).select(torch.arange(rows) % 4)


def acted(decoded):
    actions, mask = decoded.all_actions
    return [row[here].tolist() for row, here in zip(actions, mask, strict=True)]


def follow(scores, rows, cell):
    """Always the same token, the last of the letters."""
    return torch.full_like(rows, 3), torch.full((len(rows),), -0.5)


@pytest.mark.parametrize("once", [True, False])
@torch.no_grad()
def test_given_actions_are_taken_and_then_the_policys_own(once):
    policy = small()
    source, ids = rows_of(policy, 4), torch.arange(4)
    back = policy.vocabulary.backspace
    given = torch.tensor([[0, 1, back, 2], [2, 2, 2, 2], [back, 0, 0, 0], [1, 1, 1, 1]])
    lengths = torch.tensor([3, 2, 1, 0])
    own = choose_greedily if once else make_sampler(ids, 3)
    decoded = decode_with(policy, source, force_actions(own, given, lengths), forbid_repeats=once)

    for row, length in enumerate(lengths.tolist()):

        def choose(scores, cell, row=row, length=length):
            if cell < length:
                return given[row, cell]
            return own(scores[None], torch.tensor([row]), cell)[0]

        alone = source.select(torch.tensor([row]))
        actions, text = twin_backtrack(policy, alone, choose, 12, forbid_repeats=once)
        assert acted(decoded)[row] == actions
        assert decoded.lists(None)[row] == text


def test_what_is_given_counts_nothing():
    policy = small()
    source = rows_of(policy, 4)
    given, lengths = torch.zeros(4, 5, dtype=torch.long), torch.tensor([5, 4, 0, 2])
    decoded = decode_with(
        policy, source, force_actions(follow, given, lengths), torch.full((4,), 5)
    )
    close(decoded.log_probs, -0.5 * (5 - lengths))


def test_given_actions_reach_past_the_limit():
    policy = small()
    given = torch.zeros(4, 9, dtype=torch.long)
    choose = force_actions(follow, given, torch.full((4,), 9))
    decoded = decode_with(policy, rows_of(policy, 4), choose, torch.tensor([1, 2, 3, 4]))
    assert [len(row) for row in acted(decoded)] == [1, 2, 3, 4]


@pytest.mark.parametrize("wrong", [4, -1])
def test_lengths_that_are_not_there_are_refused(wrong):
    message = rf"^row 1 is given {wrong} actions; it must be 0 to 3, the columns of tokens$"
    with pytest.raises(ValueError, match=message):
        force_actions(follow, torch.zeros(3, 3, dtype=torch.long), torch.tensor([3, wrong, 0]))


def test_errors_are_planted_at_their_rate_and_told():
    policy = small(limit=40)
    words, ids = policy.vocabulary, torch.arange(ROWS)
    choose = NoisySampler(follow, words, rate=0.2, ids=ids, seed=5)
    decoded = decode_with(policy, rows_of(policy), choose)
    actions, mask = decoded.all_actions
    planted = choose.find_errors(decoded)
    assert torch.equal(planted, (actions != 3) & mask)
    assert mask.sum() == ROWS * 40
    hits = int(planted.sum())
    expected = torch.tensor([0.2, 0.8]) * ROWS * 40
    assert chi_square([hits, ROWS * 40 - hits], expected) > 0.01
    wrong = actions[planted]
    counts = [int((wrong == token).sum()) for token in range(3)]
    assert sum(counts) == hits
    assert chi_square(counts, torch.full((3,), hits / 3)) > 0.01
    close(decoded.log_probs, -0.5 * (mask & ~planted).sum(1), 1e-5)


def test_a_replaced_eos_or_backspace_gives_way_to_any_token():
    words = vocabulary(4).with_backspace()
    ids = torch.arange(600)
    for action in (words.eos, words.backspace):
        choose = NoisySampler(
            lambda scores, rows, cell, action=action: (
                torch.full_like(rows, action),
                torch.zeros(len(rows)),
            ),
            words,
            rate=1.0,
            ids=ids,
            seed=1,
        )
        chosen, _ = choose(torch.zeros(600, words.actions), ids, 0)
        assert chi_square(chosen.bincount(minlength=3), torch.full((3,), 200)) > 0.01


def test_errors_do_not_depend_on_the_batch():
    policy = small()
    source, ids = rows_of(policy, 8), torch.arange(8) + 30
    order = torch.tensor([5, 0, 7, 2, 1, 3, 6, 4])

    def write(rows):
        draw = make_sampler(ids[rows], 2)
        choose = NoisySampler(draw, policy.vocabulary, rate=0.4, ids=ids[rows], seed=9)
        decoded = decode_with(policy, source.select(rows), choose)
        told = choose.find_errors(decoded)
        marks = [
            here[mask].tolist() for here, mask in zip(told, decoded.all_actions[1], strict=True)
        ]
        return acted(decoded), marks

    every, marks = write(torch.arange(8))
    assert write(order) == ([every[i] for i in order], [marks[i] for i in order])
    assert write(order[:1]) == ([every[5]], [marks[5]])
    assert any(any(row) for row in marks)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_errors_or_nothing_but_errors(rate):
    policy = chain(4, limit=5)
    source, ids = policy.source(0, 1, 0), torch.arange(3)
    choose = NoisySampler(choose_greedily, policy.vocabulary, rate=rate, ids=ids, seed=0)
    decoded = decode_with(policy, source, choose)
    assert torch.equal(choose.find_errors(decoded), decoded.all_actions[1] & (rate == 1.0))
    plain = decode_with(policy, source, choose_greedily)
    if rate == 0.0:
        assert acted(decoded) == acted(plain)
        close(decoded.log_probs, plain.log_probs)
    else:
        assert decoded.lengths.tolist() == [5, 5, 5]
        assert not bool(decoded.ended.any())
        close(decoded.log_probs, torch.zeros(3))


def test_special_tokens_are_no_errors():
    words = Vocabulary(("<pad>", "<s>", "<unk>", "a", "b", "</s>"), bos=1, pad=0, eos=5, unknown=2)
    ids = torch.arange(50)
    choose = NoisySampler(follow, words.with_backspace(), rate=1.0, ids=ids, seed=1)
    chosen, _ = choose(torch.zeros(50, 7), ids, 0)
    assert chosen.unique().tolist() == [4]


def test_what_cannot_be_planted_is_refused():
    words, ids = vocabulary(2).with_backspace(), torch.arange(2)
    message = r"^the vocabulary has 1 tokens besides special ones; an error needs 2$"
    with pytest.raises(ValueError, match=message):
        NoisySampler(follow, words, rate=0.1, ids=ids, seed=0)
    with pytest.raises(ValueError, match=r"^rate is 1.5; it must lie in \[0, 1\]$"):
        NoisySampler(follow, vocabulary(5), rate=1.5, ids=ids, seed=0)
