"""Errors after correct prefixes, of models whose errors are known."""

from dataclasses import replace

import torch

from freerun.evaluation import average_by_position, find_reference_errors
from tests.evaluation.test_exposure_bias import BIG, Targets, table
from tests.helpers import Chain


def model(scores, **settings):
    """A chain that can read padding, too."""
    return Chain(torch.cat([scores, scores[:, :1]], 1), limit=4, **settings)


def test_a_model_that_only_repeats_its_mistakes():
    # It begins with b and copies: after a comes a, after b comes b. Freely it writes bbbb.
    policy = model(table(0, 1, 1), eos=False)
    data = Targets(policy, [(0, [0, 0, 0, 0]), (0, [1, 0]), (0, [1, 1, 0])])
    expected = [[True, False, False, False], [False, True], [False, False, True]]
    for batch_size in (1, 2, 3):
        wrong = find_reference_errors(policy, data, batch_size=batch_size)
        assert wrong == expected
    assert average_by_position(wrong) == ([1 / 3, 1 / 3, 1 / 2, 0], [3, 3, 2, 1])


def test_the_end_of_a_reference_belongs_to_its_last_position():
    # After a it goes on with b, after b it ends, and it begins with a.
    policy = model(torch.tensor([[[0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]]) * BIG)
    data = Targets(policy, [(0, [0, 1]), (0, [0]), (0, [0, 0]), (0, []), (0, [1, 1])])
    assert find_reference_errors(policy, data) == [
        [False, False], [True], [False, True], [], [True, True]
    ]  # fmt: skip


def test_unknown_tokens_are_always_wrong():
    policy = model(table(1, 1, 1), eos=False)
    policy.vocabulary = replace(policy.vocabulary, unknown=1)
    assert find_reference_errors(policy, Targets(policy, [(0, [1, 1])])) == [[True, True]]
