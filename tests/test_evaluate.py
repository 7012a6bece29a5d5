"""Free-running evaluation, on a policy that writes what the test says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from freerun.decoding import beam_search, greedy
from freerun.evaluation import (
    Decoding,
    batches_by_length,
    decode,
    decode_hypotheses,
    evaluate,
    on_device,
    teacher_forced_loss,
)
from freerun.models.settings import RecurrentSettings
from freerun.policy import Policy, State, Trace
from tests.helpers import raises
from tests.training.tiny_task import Strings, Tiny


@dataclass
class Rows(State):
    """States of a scripted policy: the sentence of each row, and how far it is."""

    sentence: torch.Tensor
    cell: int = 0

    def select(self, rows):
        return Rows(self.sentence[rows], self.cell)


class Scripted(Policy, Trace):
    """Writes the script of a sentence, named by its first source token, whatever it reads."""

    def __init__(self, vocabulary, scripts):
        super().__init__()
        self.vocabulary, self.scripts, self.widths = vocabulary, scripts, []

    def limit(self, source):
        return torch.full_like(source.lengths, 6)

    def start(self, source):
        self.widths.append(len(source.mask))
        return Rows(source.values[:, 0])

    def step(self, state, inputs):
        scores = torch.zeros(len(inputs), self.vocabulary.actions)
        for row, sentence in enumerate(state.sentence.tolist()):
            script = [*self.scripts[sentence], self.vocabulary.eos]
            scores[row, script[min(state.cell, len(script) - 1)]] = 5.0
        return scores, Rows(state.sentence, state.cell + 1)

    def force(self, source, inputs, parents=None):
        return self

    def logits(self, cells):
        # 2 on token 0, 0 elsewhere.
        scores = torch.zeros(int(cells.sum()), self.vocabulary.actions)
        scores[:, 0] = 2.0
        return scores

    def fork(self, rows, cells):
        raise NotImplementedError

    def embed(self, weights):
        raise NotImplementedError


def scripted(*scripts):
    """The policy, and examples whose references are the scripts' first tokens backwards."""
    task = Tiny(letters=4)
    return Scripted(task.load().codec.target, [list(script) for script in scripts])


def test_metrics_and_errors_by_position_by_hand():
    task = Tiny(letters=4)
    # References are 0; 1 1; 3 2 2.
    examples = Strings(((0,), (1, 1), (2, 2, 3)), 4, [])
    policy = scripted([0], [1, 0], [3, 2, 2, 2])
    found = evaluate(policy, task, task.load().codec, examples)
    assert found.hypotheses == [[0], [1, 0], [3, 2, 2, 2]]
    assert found.references == [[0], [1, 1], [3, 2, 2]]
    assert found.metrics == {"character_error": 2 / 6, "exact_match": 1 / 3}
    assert found.count_by_position == [3, 2, 1]
    assert found.error_by_position == [0, 1 / 2, 1]


def test_outputs_come_in_the_order_of_examples_whatever_the_batch_size():
    sources = ((1, 1, 1), (0,), (3, 3), (2, 2, 2, 2), (1,))
    examples = Strings(sources, 4, [])
    policy = scripted([0, 0], [1], [2, 2, 2], [])
    for batch_size in (1, 2, 3, 100):
        found = decode_hypotheses(policy, examples, batch_size=batch_size)
        assert found == [policy.scripts[source[0]] for source in sources]
    assert batches_by_length(examples, 2) == [[3, 0], [2, 1], [4]]


def test_batches_hold_at_most_so_many():
    policy = scripted([0])
    decode_hypotheses(policy, Strings(((0,),) * 7, 4, []), batch_size=3)
    assert policy.widths == [3, 3, 1]


def test_teacher_forced_loss_by_hand():
    # Five target tokens, eos included, of which two are token 0.
    examples = Strings(((0, 1), (0,)), 4, [])
    normaliser = math.log(math.exp(2) + 4)
    expected = (5 * normaliser - 2 * 2) / 5
    for batch_size in (1, 2):
        found = teacher_forced_loss(scripted([0]), examples, batch_size=batch_size)
        assert found == pytest.approx(expected, rel=1e-6)


def test_greedy_and_beam_are_those_of_rolling():
    task = Tiny(dev=30)
    data = task.load()
    policy = RecurrentSettings(hidden_size=16, embedding_size=8, dropout=0.5).build(data.codec)
    with torch.no_grad():
        policy.output.weight.mul_(20)
    source = data.dev.batch(range(30)).source
    beam = Decoding(beam=3, length_penalty=0.5)
    for decoding, twin in (
        (Decoding(), greedy(policy, source)),
        (beam, beam_search(policy, source, size=3, length_penalty=0.5)),
    ):
        assert torch.equal(decode(policy, source, decoding).tokens, twin.tokens)
        expected = twin.lists(data.codec.target.eos)
        assert decode_hypotheses(policy, data.dev, decoding=decoding, batch_size=30) == expected
        found = evaluate(policy, task, data.codec, data.dev, decoding=decoding, batch_size=7)
        assert found.hypotheses == expected
    assert decode_hypotheses(policy, data.dev) != decode_hypotheses(policy, data.dev, decoding=beam)


def test_evaluation_leaves_the_policy_as_it_was():
    task = Tiny()
    data = task.load()
    policy = (
        RecurrentSettings(hidden_size=8, embedding_size=8, dropout=0.5).build(data.codec).train()
    )
    before = torch.get_rng_state()
    one = evaluate(policy, task, data.codec, data.dev)
    other = evaluate(policy, task, data.codec, data.dev)
    assert one.hypotheses == other.hypotheses
    assert one.metrics == other.metrics
    assert teacher_forced_loss(policy, data.dev) == teacher_forced_loss(policy, data.dev)
    assert policy.training
    assert policy.dropout.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_sources_without_targets_can_be_decoded():
    examples = Strings(((2,), (1, 1)), 4, [])
    assert decode_hypotheses(scripted([], [1], [2]), examples) == [[2], [1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 0}, "beam is 0; it must lie in [1, 1024]"),
        ({"beam": 999_999}, "beam is 999999; it must lie in [1, 1024]"),
        (
            {"contrastive": 0.6, "top_k": 999_999},
            "top_k is 999999; contrastive search reads each of these tokens: it must be at most "
            "1024",
        ),
        ({"beam": 2, "length_penalty": -0.5}, "length_penalty is -0.5; it must lie in [0, 10]"),
        (
            {"length_penalty": 0.5},
            "length_penalty has no effect on greedy decoding; set beam above 1",
        ),
    ],
)
def test_settings_out_of_range(settings, message):
    with raises(ValueError, message):
        Decoding(**settings)


def test_nothing_to_evaluate_on():
    task = Tiny()
    with pytest.raises(ValueError, match=r"^there are no examples to evaluate on$"):
        evaluate(scripted([0]), task, task.load().codec, Strings((), 4, []))


def test_batches_go_where_the_policy_is():
    data = Tiny().load()
    policy = RecurrentSettings(hidden_size=8, embedding_size=8).build(data.codec).to("meta")
    batch = on_device(data.dev.batch([0]), policy)
    assert {value.device.type for value in batch.tensors().values()} == {"meta"}
