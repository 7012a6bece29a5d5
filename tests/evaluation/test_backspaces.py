"""What evaluation keeps of policies that withdraw tokens, against a count in plain Python."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainingArguments

from freerun.evaluation import (
    GREEDY,
    Backspaces,
    DecodedExamples,
    Decoding,
    decode_examples,
    decode_with_errors,
    evaluate,
    teacher_forced_loss,
)
from freerun.methods import MLE
from freerun.metrics import score
from freerun.training import Objective
from freerun.training.trainer import decode_in_processes
from freerun.vocabulary import Vocabulary
from tests.helpers import tiny_policy
from tests.training.tiny_task import Strings, Tiny

WORDS = Vocabulary.build("abcd", eos=True).with_backspace()
SAMPLE = Decoding(sample=True, seed=3)
EXAMPLES = Tiny(dev=40).load().dev
TASK = Tiny()


@pytest.fixture(scope="module")
def policy():
    """A policy that withdraws a token now and then."""
    found = tiny_policy(words=WORDS, limit=12, seed=8, scale=0.7)
    with torch.no_grad():
        found.output.bias[WORDS.backspace] += 1
    return found


def replayed(actions):
    """What remains of actions, eos included."""
    stack = []
    for action in actions:
        if action != WORDS.backspace:
            stack.append(action)
        elif stack:
            stack.pop()
    return stack


def counted(rows, references):
    """The counts, action by action."""
    actions = backspaces = withdrawals = rewritten = right = 0
    for row, reference in zip(rows, references, strict=True):
        stack, removed = [], {}
        for action in row:
            actions += 1
            place = len(stack)
            if action != WORDS.backspace:
                if removed.get(place, action) != action:
                    rewritten += 1
                    right += place < len(reference) and action == reference[place]
                removed.pop(place, None)
                stack.append(action)
                continue
            backspaces += 1
            if stack:
                withdrawals += 1
                removed[place - 1] = stack.pop()
    return Backspaces(actions, backspaces, withdrawals, rewritten, right)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLE])
def test_actions_are_kept_and_counted(policy, decoding):
    found = decode_examples(policy, EXAMPLES, decoding=decoding, batch_size=7)
    eos = WORDS.eos
    for row, hypothesis in zip(found.actions, found.hypotheses, strict=True):
        remains = replayed(row)
        assert hypothesis == (remains[:-1] if remains[-1:] == [eos] else remains)
        assert eos not in row[:-1]
        assert row[-1] == eos or len(row) == 12
    references = [[*reference, eos] for reference in EXAMPLES.references]
    assert found.backspaces == counted(found.actions, references)
    used = found.backspaces
    assert used.withdrawals > used.rewritten > used.right > 0


def test_planted_errors_and_those_that_are_withdrawn_are_counted(policy):
    decoding = Decoding(noise=0.3, seed=1)
    written = decode_examples(policy, EXAMPLES, decoding=decoding)
    assert written != decode_examples(policy, EXAMPLES)
    errors = gone = 0
    for number, row in enumerate(written.actions):
        batch = EXAMPLES.batch([number])
        found, planted = decode_with_errors(policy, batch.source, decoding, ids=batch.ids)
        assert found.all_actions[0].tolist() == [row]
        stack = []
        for place, (action, wrong) in enumerate(zip(row, planted[0].tolist(), strict=True)):
            if action != WORDS.backspace:
                assert not (wrong and action == WORDS.eos)
                stack.append(place)
            elif stack:
                gone += planted[0, stack.pop()].item()
            errors += wrong
    used = written.backspaces
    assert (used.planted, used.withdrawn) == (errors, gone)
    assert errors > gone > 0
    assert written.metrics["withdrawn"] == gone / errors
    assert 0.2 < errors / used.actions < 0.4


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLE, Decoding(noise=0.3, seed=1)])
def test_batching_changes_nothing(policy, decoding):
    one = decode_examples(policy, EXAMPLES, decoding=decoding, batch_size=40)
    for size in (1, 9):
        assert decode_examples(policy, EXAMPLES, decoding=decoding, batch_size=size) == one


def test_an_evaluation_has_shares_and_counts(policy):
    found = evaluate(policy, TASK, TASK.load().codec, EXAMPLES, decoding=SAMPLE)
    written = decode_examples(policy, EXAMPLES, decoding=SAMPLE)
    assert (found.hypotheses, found.actions) == (written.hypotheses, written.actions)
    assert found.backspaces == written.backspaces
    used = found.backspaces
    assert found.metrics == {
        **score(TASK.get_metrics(), TASK.load().codec, written.hypotheses, EXAMPLES),
        "backspace_rate": used.backspaces / used.actions,
        "rewritten": used.rewritten / used.withdrawals,
        "right_after": used.right / used.rewritten,
    }


def test_sources_without_targets_have_nothing_that_is_right(policy):
    class Sources(Strings):
        def batch(self, numbers, epoch=0):
            found = super().batch(numbers, epoch)
            return type(found)(found.ids, found.source, found.target[:, :0], found.mask[:, :0])

    found = decode_examples(policy, Sources(EXAMPLES.sources, 4, []), decoding=SAMPLE)
    assert found.backspaces.rewritten > 0
    assert found.backspaces.right is None
    assert "right_after" not in found.metrics
    assert found.actions == decode_examples(policy, EXAMPLES, decoding=SAMPLE).actions


@pytest.mark.parametrize(
    ("counts", "metrics"),
    [
        ((10, 0, 0, 0, 0), {"backspace_rate": 0.0}),
        ((10, 2, 0, 0, 0), {"backspace_rate": 0.2}),
        ((10, 2, 2, 0, 0), {"backspace_rate": 0.2, "rewritten": 0.0}),
        (
            (10, 5, 4, 2, 1, 8, 2),
            {"backspace_rate": 0.5, "rewritten": 0.5, "right_after": 0.5, "withdrawn": 0.25},
        ),
        ((10, 5, 4, 2, None, 0, 0), {"backspace_rate": 0.5, "rewritten": 0.5}),
    ],
)
def test_shares_of_nothing_are_left_out(counts, metrics):
    assert Backspaces(*counts).metrics == metrics


def test_counts_add_up_and_stay_unknown_where_one_is():
    one, other = Backspaces(9, 4, 3, 2, 1, 5, 4), Backspaces(1, 1, 1, 1, 1, None, None)
    assert Backspaces.sum([one, other]) == Backspaces(10, 5, 4, 3, 2, None, None)
    assert Backspaces.sum([one, one]) == Backspaces(18, 8, 6, 4, 2, 10, 8)


def test_parts_are_joined_in_the_order_of_examples():
    one = DecodedExamples([[0], [1]], [[0, 4], [1, 4]], Backspaces(4, 0, 0, 0, 0))
    other = DecodedExamples([[2]], [[3, 5, 2, 4]], Backspaces(4, 1, 1, 1, 1))
    assert DecodedExamples.join([([2, 0], one), ([1], other)]) == DecodedExamples(
        [[1], [2], [0]], [[1, 4], [3, 5, 2, 4], [0, 4]], Backspaces(8, 1, 1, 1, 1)
    )
    assert DecodedExamples.join(
        [([1], DecodedExamples([[5]])), ([0], DecodedExamples([[6]]))]
    ) == DecodedExamples([[6], [5]])


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLE, Decoding(noise=0.3, seed=1)])
def test_the_trainer_finds_the_same(policy, tmp_path, decoding):

    args = TrainingArguments(str(tmp_path), per_device_eval_batch_size=6, report_to=[])
    found, loss = decode_in_processes(Objective(policy, MLE()), policy, EXAMPLES, decoding, args)
    assert found == decode_examples(policy, EXAMPLES, decoding=decoding)
    assert loss == pytest.approx(teacher_forced_loss(policy, EXAMPLES))
