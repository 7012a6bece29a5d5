"""How outputs are decoded: samples by the number of their example, and what excludes what."""

from __future__ import annotations

import pytest
import torch

from freerun.batch import shift_right
from freerun.decoding import contrastive_search, sample
from freerun.evaluation import (
    GREEDY,
    Decoding,
    check_decoding,
    decode,
    decode_examples,
    decode_hypotheses,
    decode_with_errors,
    evaluate,
)
from freerun.metrics import score
from freerun.models.settings import RecurrentSettings
from tests.helpers import raises
from tests.models.models import text_source, tiny_adapted
from tests.training.tiny_task import Strings, Tiny

SAMPLE = Decoding(sample=True, temperature=0.8, top_k=3, top_p=0.9, seed=5)


@pytest.fixture(scope="module")
def task():
    return Tiny(dev=30)


@pytest.fixture(scope="module")
def data(task):
    return task.load()


@pytest.fixture(scope="module")
def policy(data):
    found = RecurrentSettings(hidden_size=8, embedding_size=8).build(data.codec)
    with torch.no_grad():
        found.output.weight.mul_(4)
    return found


def test_samples_are_those_of_rolling(policy, data):
    batch = data.dev.batch(range(30))
    settings = {"temperature": 0.8, "top_k": 3, "top_p": 0.9}
    expected = sample(policy, batch.source, ids=batch.ids, seed=5, **settings)
    found = decode(policy, batch.source, SAMPLE, ids=batch.ids)
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.log_probs, expected.log_probs)
    assert found.lists(4) != decode(policy, batch.source).lists(4)


def test_a_sample_hangs_on_its_example_and_the_seed_alone(policy, data):
    one, *others = (
        decode_hypotheses(policy, data.dev, decoding=SAMPLE, batch_size=size) for size in (30, 1, 7)
    )
    assert others == [one, one]
    reordered = [4, 17, 2]
    batch = data.dev.batch(reordered)
    rows = decode(policy, batch.source, SAMPLE, ids=batch.ids).lists(4)
    assert rows == [one[number] for number in reordered]
    other = Decoding(sample=True, temperature=0.8, top_k=3, top_p=0.9, seed=6)
    assert decode_hypotheses(policy, data.dev, decoding=other) != one


def test_evaluation_is_of_the_samples(policy, task, data):
    found = evaluate(policy, task, data.codec, data.dev, decoding=SAMPLE, batch_size=4)
    assert found.hypotheses == decode_hypotheses(policy, data.dev, decoding=SAMPLE)
    assert found.metrics == score(task.get_metrics(), data.codec, found.hypotheses, data.dev)
    assert (found.actions, found.backspaces) == (None, None)
    assert decode_examples(policy, data.dev).backspaces is None


def test_what_is_drawn_needs_the_ids_of_rows(policy, data):
    source = data.dev.batch([0]).source
    with pytest.raises(ValueError, match=r"^tokens are drawn by the ids of rows; give ids$"):
        decode(policy, source, SAMPLE)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLE])
def test_whoever_watches_sees_all_that_is_written(policy, data, decoding):
    batch = data.dev.batch(range(6))
    seen = [[] for _ in range(6)]

    def watch(scores, rows, cell, tokens):
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            seen[row].append(token)

    found, planted = decode_with_errors(policy, batch.source, decoding, ids=batch.ids, watch=watch)
    assert planted is None
    for row, length in enumerate(found.lengths.tolist()):
        assert seen[row][:length] == found.tokens[row, :length].tolist()
    with pytest.raises(ValueError, match=r"^nothing can be watched of beam 2$"):
        decode(policy, batch.source, Decoding(beam=2), watch=watch)


def test_errors_are_planted_and_the_policy_goes_on_from_them(policy, data):
    batch = data.dev.batch(range(30))
    decoding = Decoding(noise=0.2, seed=4)
    found, planted = decode_with_errors(policy, batch.source, decoding, ids=batch.ids)
    assert planted.shape == found.tokens.shape
    assert 0.1 < planted.sum() / found.lengths.sum() < 0.3
    trace = policy.force(batch.source, shift_right(found.tokens, policy.vocabulary.bos))
    mask = found.all_actions[1]
    choices = trace.logits(mask).argmax(-1)
    assert torch.equal(choices != found.tokens[mask], planted[mask])
    rows = found.lists(4)
    assert decode_hypotheses(policy, data.dev, decoding=decoding, batch_size=4) == rows
    assert decode_hypotheses(policy, data.dev, decoding=Decoding(noise=0.2, seed=5)) != rows


def test_contrastive_search_is_that_of_rolling():
    found = tiny_adapted("gpt2")
    source = text_source(found)
    expected = contrastive_search(found, source, top_k=3, penalty=1.0)
    tokens = decode(found, source, Decoding(contrastive=1.0, top_k=3)).tokens
    assert torch.equal(tokens, expected.tokens)
    assert tokens.tolist() != decode(found, source).tokens.tolist()


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        (Decoding(contrastive=0.6, top_k=3),
         "contrastive search cannot withdraw tokens, and this vocabulary has a backspace: "
         "decode greedily or sample"),
        (Decoding(beam=3),
         "beam search cannot withdraw tokens, and this vocabulary has a backspace: decode "
         "greedily or sample"),
    ],
)  # fmt: skip
def test_what_a_policy_cannot_do_is_told_before(data, decoding, message):
    found = RecurrentSettings(hidden_size=8, embedding_size=8).build(data.codec.with_backspace())
    with raises(ValueError, message):
        check_decoding(found, data.dev, decoding)
    check_decoding(found, data.dev, GREEDY)
    check_decoding(found, Strings((), 4, []), decoding)


def test_a_limit_may_be_given(policy):
    batch = Strings(((1, 2, 3), (0,)), 4, []).batch([0, 1])
    found = decode(policy, batch.source, limit=torch.tensor([2, 1]))
    assert (found.lengths <= torch.tensor([2, 1])).all()


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        ({}, "greedy"),
        ({"beam": 3, "length_penalty": 0.5}, "beam 3"),
        ({"sample": True}, "sampling (seed 0)"),
        ({"sample": True, "temperature": 0.5, "top_k": 4, "top_p": 0.9, "seed": 2},
         "sampling (temperature 0.5, top-k 4, top-p 0.9, seed 2)"),
        ({"contrastive": 0.6, "top_k": 5}, "contrastive search (penalty 0.6, top-k 5)"),
        ({"noise": 0.01}, "greedy decoding (errors planted at a rate of 0.01, seed 0)"),
        ({"sample": True, "noise": 0.5, "seed": 1},
         "sampling (errors planted at a rate of 0.5, seed 1)"),
    ],
)  # fmt: skip
def test_decoding_in_words(settings, how):
    assert Decoding(**settings).how == how


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrastive": 1.5, "top_k": 2}, "contrastive is 1.5; it must lie in [0, 1]"),
        ({"noise": -0.5}, "noise is -0.5; it must lie in [0, 1]"),
        ({"sample": True, "temperature": 0.0},
         "temperature is 0.0; it must be above 0 (greedy decodes at 0)"),
        ({"sample": True, "top_k": 0}, "top_k is 0; it must be at least 1"),
        ({"sample": True, "top_p": 1.5}, "top_p is 1.5; it must lie in (0, 1]"),
        ({"sample": True, "beam": 2}, "beam and sample exclude each other; choose one"),
        ({"sample": True, "contrastive": 0.5, "top_k": 4},
         "sample and contrastive exclude each other; choose one"),
        ({"contrastive": 0.5}, "contrastive needs top_k, the number of tokens to choose among"),
        ({"noise": 0.1, "beam": 2},
         "noise and beam exclude each other; errors are planted where tokens are chosen one by "
         "one: greedily, or by sample"),
        ({"temperature": 0.5}, "temperature has no effect on its own; set sample"),
        ({"top_k": 5}, "top_k has no effect on its own; set sample or contrastive"),
        ({"top_p": 0.5}, "top_p has no effect on its own; set sample"),
        ({"contrastive": 0.5, "top_k": 4, "top_p": 0.5},
         "top_p has no effect on its own; set sample"),
        ({"seed": 1}, "seed has no effect on its own; set sample or noise"),
    ],
)  # fmt: skip
def test_settings_that_are_refused(settings, message):
    with raises(ValueError, message):
        Decoding(**settings)
